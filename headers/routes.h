/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routes.h: the way back of connections that weft makes to a pod's app from a client's address (proc/routes.c).
 *
 * Made when the worker first asks for such a socket (inside.c), gone with the pod.
 * Such a socket is bound to an address that is not the pod's and carries WIRE_SOCKET_MARK. What the app answers must
 * come to it rather than leave the pod:
 *
 *	ip rule		pref 100 fwmark 0x539/0xfff lookup 15008	IPv4, IPv6
 *	ip route	local default dev lo table 15008		IPv4, IPv6
 *	sysctl		net.ipv4.tcp_fwmark_accept = 1		the app's accepted socket takes the mark of the SYN
 *			net.ipv4.fwmark_reflect = 1,		and so does a RST where nobody listens
 *			net.ipv6.fwmark_reflect = 1
 *
 * Neither rp_filter nor src_valid_mark matter: packets that go out by a local route keep it when lo hands them in
 * again, so that no input route is looked up (loopback_xmit, skb_valid_dst).
 */
#ifndef WEFT_ROUTES_H
#define WEFT_ROUTES_H

#include "base.h"

/*
 * Makes what of it is not there. 0 or -errno; a netns without IPv6 gets none of IPv6. What the sysctls were is noted in
 * the rule's protocol, so that it outlives us.
 */
int routes_add(int netns) must_check;
/* Takes it away, and gives the sysctls that were switched on their 0 back. No error if there is nothing. */
int routes_remove(int netns) must_check;

#endif
