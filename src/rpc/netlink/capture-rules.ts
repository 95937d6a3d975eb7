import type { Capture } from './capture.js';
import { be16, be32, name, type Attribute, type NftMessage } from './messages.js';

/** linux/netfilter/nf_tables.h */
const NFT_MSG_NEWTABLE = 0;
const NFT_MSG_DELTABLE = 2;
const NFT_MSG_NEWCHAIN = 3;
const NFT_MSG_NEWRULE = 6;
const NFT_REG_1 = 1;
const NFT_REG_VERDICT = 0;
const NFT_META_IIF = 4;
const NFT_META_L4PROTO = 16;
const NFT_CMP_EQ = 0;
const NFT_CMP_NEQ = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER = 2;
const NFT_CT_DIRECTION = 1;
const NFT_CT_STATUS = 2;
/** linux/netlink.h */
const NLM_F_CREATE = 0x400;
const NLM_F_APPEND = 0x800;
/** linux/netfilter.h, linux/netfilter_ipv4.h */
const NF_INET_PRE_ROUTING = 0;
const NF_INET_LOCAL_IN = 1;
const NF_IP_PRI_NAT_DST = -100;
const NF_IP_PRI_FILTER = 0;
const NF_DROP = 0;
const NF_ACCEPT = 1;
/** linux/netfilter/nf_conntrack_tuple_common.h */
const IP_CT_DIR_REPLY = 1;
/** linux/netfilter/nf_conntrack_common.h */
const IPS_DST_NAT = 0x20;
const IPPROTO_TCP = 6;
/** Every network namespace has it, and it is made first. */
const LOOPBACK_INDEX = 1;

const TABLE = 'signet';
const REDIRECTING = 'redirect';
const GUARDING = 'guard';

/**
 * What puts a capture in place, in a table of its own that replaces one of an earlier run. As nft(8) would show it:
 *
 *     table inet signet {
 *       chain redirect {
 *         type nat hook prerouting priority dstnat; policy accept;
 *         iif != "lo" tcp dport 8080 redirect to :15630
 *       }
 *       chain guard {
 *         type filter hook input priority filter; policy accept;
 *         iif "lo" accept
 *         ct direction reply accept
 *         tcp dport 15630 ct status dnat accept
 *         tcp dport { 8080, 15630 } drop
 *       }
 *     }
 *
 * What was redirected has another port when it comes to the guard. So all that comes there with this one came around the
 * redirection, as packets do that connection tracking makes nothing of; what answers a call of the pod's own did not. And whoever
 * calls the proxy's own port would be decided about as a caller of that port, by none of the rules for the captured one.
 */
export function captureRules({ redirects, closed }: Capture): readonly NftMessage[] {
  const listeners = [...new Set(redirects.map(({ listener }) => listener))];
  const guarded = [...new Set([...redirects.map(({ port }) => port), ...closed, ...listeners])];
  return [
    table(NFT_MSG_NEWTABLE),
    // It is there for certain now: one that was missing could not be taken away.
    table(NFT_MSG_DELTABLE),
    table(NFT_MSG_NEWTABLE),
    chain(REDIRECTING, 'nat', NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST),
    ...redirects.map(({ port, listener }) =>
      rule(REDIRECTING, [...iif(NFT_CMP_NEQ), ...tcpPort(port), ...redirect(listener)]),
    ),
    chain(GUARDING, 'filter', NF_INET_LOCAL_IN, NF_IP_PRI_FILTER),
    rule(GUARDING, [...iif(NFT_CMP_EQ), verdict(NF_ACCEPT)]),
    rule(GUARDING, [...isReply, verdict(NF_ACCEPT)]),
    ...listeners.map((port) => rule(GUARDING, [...tcpPort(port), ...wasRedirected, verdict(NF_ACCEPT)])),
    ...guarded.map((port) => rule(GUARDING, [...tcpPort(port), verdict(NF_DROP)])),
  ];
}

function table(type: number): NftMessage {
  const flags = type === NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0;
  return { type, flags, attributes: [leaf(1, name(TABLE))] };
}

function chain(of: string, type: 'nat' | 'filter', hook: number, priority: number): NftMessage {
  return {
    ...{ type: NFT_MSG_NEWCHAIN, flags: NLM_F_CREATE },
    attributes: [
      ...[leaf(1, name(TABLE)), leaf(3, name(of))],
      nest(4, leaf(1, be32(hook)), leaf(2, be32(priority))),
      ...[leaf(5, be32(NF_ACCEPT)), leaf(7, name(type))],
    ],
  };
}

function rule(of: string, expressions: readonly Attribute[]): NftMessage {
  return {
    ...{ type: NFT_MSG_NEWRULE, flags: NLM_F_CREATE | NLM_F_APPEND },
    attributes: [leaf(1, name(TABLE)), leaf(2, name(of)), nest(4, ...expressions)],
  };
}

/** Whether it came in at the loopback interface, or not. */
function iif(operator: number): readonly Attribute[] {
  return [meta(NFT_META_IIF), compare(operator, native32(LOOPBACK_INDEX))];
}

function tcpPort(port: number): readonly Attribute[] {
  const destination = [leaf(1, be32(NFT_REG_1)), leaf(2, be32(NFT_PAYLOAD_TRANSPORT_HEADER))];
  return [
    ...[meta(NFT_META_L4PROTO), compare(NFT_CMP_EQ, Buffer.from([IPPROTO_TCP]))],
    // Bytes 2 and 3 of the header (RFC 9293 §3.1).
    expression('payload', ...destination, leaf(3, be32(2)), leaf(4, be32(2))),
    compare(NFT_CMP_EQ, be16(port)),
  ];
}

const isReply: readonly Attribute[] = [
  expression('ct', leaf(1, be32(NFT_REG_1)), leaf(2, be32(NFT_CT_DIRECTION))),
  compare(NFT_CMP_EQ, Buffer.from([IP_CT_DIR_REPLY])),
];

/** The kernel's own kind of number. */
function native32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Another address or port was put in place of the one that was called. */
const wasRedirected: readonly Attribute[] = [
  expression('ct', leaf(1, be32(NFT_REG_1)), leaf(2, be32(NFT_CT_STATUS))),
  expression(
    'bitwise',
    ...[leaf(1, be32(NFT_REG_1)), leaf(2, be32(NFT_REG_1)), leaf(3, be32(4))],
    ...[nest(4, leaf(1, native32(IPS_DST_NAT))), nest(5, leaf(1, native32(0)))],
  ),
  compare(NFT_CMP_NEQ, native32(0)),
];

function redirect(listener: number): readonly Attribute[] {
  return [
    expression('immediate', leaf(1, be32(NFT_REG_1)), nest(2, leaf(1, be16(listener)))),
    expression('redir', leaf(1, be32(NFT_REG_1))),
  ];
}

function verdict(code: number): Attribute {
  return expression('immediate', leaf(1, be32(NFT_REG_VERDICT)), nest(2, nest(2, leaf(1, be32(code)))));
}

function meta(key: number): Attribute {
  return expression('meta', leaf(2, be32(key)), leaf(1, be32(NFT_REG_1)));
}

function compare(operator: number, value: Buffer): Attribute {
  return expression('cmp', leaf(1, be32(NFT_REG_1)), leaf(2, be32(operator)), nest(3, leaf(1, value)));
}

/** An element of a list (NFTA_LIST_ELEM) with a name and what the expression of that name takes. */
function expression(of: string, ...data: readonly Attribute[]): Attribute {
  return nest(1, leaf(1, name(of)), nest(2, ...data));
}

function leaf(type: number, value: Buffer): Attribute {
  return { type, value };
}

function nest(type: number, ...value: readonly Attribute[]): Attribute {
  return { type, value };
}
