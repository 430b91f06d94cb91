"""libusrsctp, loaded by its soname, and as much of its interface as is used here.

What the stack hands back through pointers (a peer's id, an endpoint's id) is declared as a number:
it is one, and numbers need no handles that somebody must keep alive.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from isoneph.core.errors import TransportUnavailable

SONAME = "libusrsctp.so.2"
PACKAGE = "libusrsctp2"

AF_CONN = 123
IPPROTO_SCTP = 132

MSG_EOR = 0x80
MSG_NOTIFICATION = 0x2000
EVENT_READ = 1
EVENT_ERROR = 4

SCTP_RTOINFO = 0x01
SCTP_ASSOCINFO = 0x02
SCTP_INITMSG = 0x03
SCTP_NODELAY = 0x04
SCTP_PEER_ADDR_PARAMS = 0x0A
SCTP_EVENT = 0x1E
SCTP_RECVRCVINFO = 0x1F
SCTP_STATUS = 0x100
SCTP_GET_NONCE_VALUES = 0x1105

SPP_HB_ENABLE = 0x01
SPP_HB_DISABLE = 0x02
SPP_PMTUD_DISABLE = 0x10

SENDV_SNDINFO = 1
SEND_ABORT = 0x0200
UNORDERED = 0x0400

CDEF = """
struct socket;
struct sockaddr_conn {
    uint16_t sconn_family; uint16_t sconn_port; uintptr_t sconn_addr;
};
struct sctp_sndinfo {
    uint16_t snd_sid; uint16_t snd_flags; uint32_t snd_ppid; uint32_t snd_context;
    uint32_t snd_assoc_id;
};
struct sctp_rcvinfo {
    uint16_t rcv_sid; uint16_t rcv_ssn; uint16_t rcv_flags; uint32_t rcv_ppid;
    uint32_t rcv_tsn; uint32_t rcv_cumtsn; uint32_t rcv_context; uint32_t rcv_assoc_id;
};
struct sctp_event { uint32_t se_assoc_id; uint16_t se_type; uint8_t se_on; };
struct sctp_initmsg {
    uint16_t sinit_num_ostreams; uint16_t sinit_max_instreams;
    uint16_t sinit_max_attempts; uint16_t sinit_max_init_timeo;
};
struct sctp_rtoinfo {
    uint32_t srto_assoc_id; uint32_t srto_initial; uint32_t srto_max; uint32_t srto_min;
};
struct sctp_assocparams {
    uint32_t sasoc_assoc_id; uint32_t sasoc_peer_rwnd; uint32_t sasoc_local_rwnd;
    uint32_t sasoc_cookie_life; uint16_t sasoc_asocmaxrxt;
    uint16_t sasoc_number_peer_destinations;
};
struct storage { uint64_t words[16]; };
struct sctp_paddrparams {
    struct storage spp_address; uint32_t spp_assoc_id; uint32_t spp_hbinterval;
    uint32_t spp_pathmtu; uint32_t spp_flags; uint32_t spp_ipv6_flowlabel;
    uint16_t spp_pathmaxrxt; uint8_t spp_dscp;
};
struct sctp_paddrinfo {
    struct storage spinfo_address; uint32_t spinfo_assoc_id; int32_t spinfo_state;
    uint32_t spinfo_cwnd; uint32_t spinfo_srtt; uint32_t spinfo_rto; uint32_t spinfo_mtu;
};
struct sctp_status {
    uint32_t sstat_assoc_id; int32_t sstat_state; uint32_t sstat_rwnd;
    uint16_t sstat_unackdata; uint16_t sstat_penddata; uint16_t sstat_instrms;
    uint16_t sstat_outstrms; uint32_t sstat_fragmentation_point;
    struct sctp_paddrinfo sstat_primary;
};
struct sctp_nonces { uint32_t assoc_id; uint32_t peers_tag; uint32_t local_tag; };
struct linger { int l_onoff; int l_linger; };
struct sctpstat {
    uint32_t before[9]; uint32_t outoftheblue; uint32_t checksumerrors; uint32_t after[245];
};

void usrsctp_init_nothreads(uint16_t port,
    int (*output)(uintptr_t peer, void *packet, size_t length, uint8_t tos, uint8_t set_df),
    void *debug);
struct socket *usrsctp_socket(int domain, int type, int protocol, void *receive, void *send,
    uint32_t threshold, void *info);
int usrsctp_setsockopt(struct socket *so, int level, int name, const void *value, uint32_t size);
int usrsctp_getsockopt(struct socket *so, int level, int name, void *value, uint32_t *size);
int usrsctp_set_non_blocking(struct socket *so, int on);
int usrsctp_set_upcall(struct socket *so,
    void (*upcall)(struct socket *so, uintptr_t endpoint, int flags), uintptr_t endpoint);
int usrsctp_get_events(struct socket *so);
int usrsctp_bind(struct socket *so, struct sockaddr_conn *name, uint32_t size);
int usrsctp_listen(struct socket *so, int backlog);
struct socket *usrsctp_accept(struct socket *so, struct sockaddr_conn *name, uint32_t *size);
int usrsctp_connect(struct socket *so, struct sockaddr_conn *name, uint32_t size);
int usrsctp_shutdown(struct socket *so, int how);
void usrsctp_close(struct socket *so);
ssize_t usrsctp_sendv(struct socket *so, const char *data, size_t size, void *to, int count,
    struct sctp_sndinfo *info, uint32_t info_size, unsigned int info_type, int flags);
ssize_t usrsctp_recvv(struct socket *so, char *data, size_t size, void *from,
    uint32_t *from_size, struct sctp_rcvinfo *info, uint32_t *info_size,
    unsigned int *info_type, int *flags);
void usrsctp_register_address(uintptr_t peer);
void usrsctp_conninput(uintptr_t peer, const char *packet, size_t length, uint8_t ecn);
void usrsctp_handle_timers(uint32_t milliseconds);
void usrsctp_get_stat(struct sctpstat *figures);
int usrsctp_sysctl_set_sctp_max_chunks_on_queue(uint32_t value);
int usrsctp_sysctl_set_sctp_ecn_enable(uint32_t value);
int usrsctp_sysctl_set_sctp_asconf_enable(uint32_t value);
int usrsctp_sysctl_set_sctp_auth_enable(uint32_t value);
int usrsctp_sysctl_set_sctp_reconfig_enable(uint32_t value);
int usrsctp_sysctl_set_sctp_pr_enable(uint32_t value);
"""


class Library(NamedTuple):
    """cffi's two halves: what makes C values, and the library's functions."""

    ffi: Any
    lib: Any


@cache
def load() -> Library:
    """The library, loaded once. Raises TransportUnavailable when it, or cffi, is missing."""
    try:
        from cffi import FFI  # noqa: PLC0415 (an extra, and other transports do without it)
    except ImportError as error:
        raise TransportUnavailable(
            "userland SCTP needs cffi: pip install 'isoneph[sctp]'"
        ) from error
    ffi = FFI()
    ffi.cdef(CDEF)
    try:
        return Library(ffi, ffi.dlopen(SONAME))
    except OSError as error:
        raise TransportUnavailable(
            f"userland SCTP needs {SONAME}: apt install {PACKAGE} ({error})"
        ) from error
