"""Names that scripts use: constants of system calls, TCP_INFO's layout, and what %{ }% blocks may refer to."""

import errno
import fcntl
import os
import select
import socket
import struct

_EXTRA = {
    'SOL_TCP': 6, 'SOL_IP': 0, 'SOL_IPV6': 41, 'NULL': 0,
    'TCP_CM_INQ': 36, 'TCP_INQ': 36, 'TCP_NOTSENT_LOWAT': 25, 'TCP_USER_TIMEOUT': 18, 'TCP_FASTOPEN': 23,
    'TCP_FASTOPEN_CONNECT': 30, 'TCP_FASTOPEN_KEY': 33, 'TCP_FASTOPEN_NO_COOKIE': 34, 'TCP_CONGESTION': 13,
    'TCP_MD5SIG': 14, 'TCP_MD5SIG_EXT': 32, 'TCP_TIMESTAMP': 24, 'TCP_SAVE_SYN': 27, 'TCP_TX_DELAY': 37, 'TCP_RTO_MAX_MS': 44,
    'TCP_RTO_MIN_US': 45, 'TCP_DELACK_MAX_US': 46,
    'SO_ZEROCOPY': 60, 'SO_TIMESTAMPING': 37, 'SO_PRIORITY': 12, 'SO_MARK': 36, 'SO_BUSY_POLL': 46,
    'SO_MAX_PACING_RATE': 47, 'SO_PEEK_OFF': 42, 'SO_BINDTODEVICE': 25, 'SO_INCOMING_CPU': 49, 'SO_TXTIME': 61,
    'SO_SNDBUFFORCE': 32, 'SO_RCVBUFFORCE': 33,
    'MSG_FASTOPEN': 0x20000000, 'MSG_ZEROCOPY': 0x4000000, 'MSG_MORE': 0x8000, 'MSG_ERRQUEUE': 0x2000,
    'IP_RECVERR': 11, 'IPV6_RECVERR': 25, 'IP_MTU_DISCOVER': 10, 'IP_PMTUDISC_DONT': 0, 'IP_PMTUDISC_DO': 2,
    'IP_FREEBIND': 15, 'IP_TOS': 1, 'IPV6_TCLASS': 67, 'IP_BIND_ADDRESS_NO_PORT': 24, 'IP_LOCAL_PORT_RANGE': 51,
    'SIOCINQ': 0x541b, 'FIONREAD': 0x541b, 'SIOCOUTQ': 0x5411, 'TIOCOUTQ': 0x5411, 'SIOCOUTQNSD': 0x894b,
    'EPOLL_CTL_ADD': 1, 'EPOLL_CTL_DEL': 2, 'EPOLL_CTL_MOD': 3, 'EPOLLEXCLUSIVE': 1 << 28,
    'TFO_SERVER_COOKIE_NOT_REQD': 0x200,
    'SO_EE_ORIGIN_NONE': 0, 'SO_EE_ORIGIN_LOCAL': 1, 'SO_EE_ORIGIN_ICMP': 2, 'SO_EE_ORIGIN_ICMP6': 3,
}


def symbol(name):
    """The number of a constant, or None."""
    if name in _EXTRA:
        return _EXTRA[name]
    for module in (socket, os, fcntl, select, errno):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return int(value)
    return None


INFO_FORMAT = '=8B24I4Q6I4Q2I2Q6I2HI'
INFO_NAMES = '''state ca_state retransmits probes backoff options wscales flags
rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv last_ack_recv
pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans
pacing_rate max_pacing_rate bytes_acked bytes_received
segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out
delivery_rate busy_time rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent bytes_retrans
dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash total_rto total_rto_recoveries total_rto_time'''.split()
INFO_BYTES = struct.calcsize(INFO_FORMAT)

CODE_NAMES = {
    'TCP_ESTABLISHED': 1, 'TCP_SYN_SENT': 2, 'TCP_SYN_RECV': 3, 'TCP_FIN_WAIT1': 4, 'TCP_FIN_WAIT2': 5,
    'TCP_TIME_WAIT': 6, 'TCP_CLOSE': 7, 'TCP_CLOSE_WAIT': 8, 'TCP_LAST_ACK': 9, 'TCP_LISTEN': 10, 'TCP_CLOSING': 11,
    'TCP_CA_Open': 0, 'TCP_CA_Disorder': 1, 'TCP_CA_CWR': 2, 'TCP_CA_Recovery': 3, 'TCP_CA_Loss': 4,
    'TCPI_OPT_TIMESTAMPS': 1, 'TCPI_OPT_SACK': 2, 'TCPI_OPT_WSCALE': 4, 'TCPI_OPT_ECN': 8, 'TCPI_OPT_ECN_SEEN': 16,
    'TCPI_OPT_SYN_DATA': 32, 'TCPI_OPT_USEC_TS': 64, 'TCPI_OPT_TFO_CHILD': 128,
    'TCP_INFINITE_SSTHRESH': 0x7fffffff,
}


def info_dict(raw):
    """TCP_INFO's bytes as {'tcpi_...': value}."""
    info = {'tcpi_' + n: v for n, v in zip(INFO_NAMES, struct.unpack(INFO_FORMAT, raw))}
    info['tcpi_snd_wscale'], info['tcpi_rcv_wscale'] = info['tcpi_wscales'] & 15, info['tcpi_wscales'] >> 4
    info['tcpi_delivery_rate_app_limited'] = info['tcpi_flags'] & 1
    info['tcpi_fastopen_client_fail'] = info['tcpi_flags'] >> 1 & 3
    return info
