/** The part of a message after its headers: a type and its value (netlink(7), struct nlattr). */
export interface Attribute {
  readonly type: number;
  readonly value: Buffer | readonly Attribute[];
}

/** One message of nf_tables, before it has a place in a batch. */
export interface NftMessage {
  /** NFT_MSG_* of linux/netfilter/nf_tables.h. */
  readonly type: number;
  /** NLM_F_* of linux/netlink.h, besides those that every message has. */
  readonly flags: number;
  readonly attributes: readonly Attribute[];
}

/** linux/netlink.h */
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLA_F_NESTED = 0x8000;
const NLMSG_HEADER = 16;
const NLMSG_ERROR = 2;
/** linux/netfilter/nfnetlink.h */
const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const NFPROTO_UNSPEC = 0;
/** IPv4 and IPv6 in one table. */
const NFPROTO_INET = 1;

/** A whole number in network order, as nf_tables has its own. */
export function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value | 0);
  return bytes;
}

/** A port, as it is in a packet. */
export function be16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** A name, with the zero that the kernel looks for. */
export function name(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'latin1');
}

/**
 * One batch: the kernel does all of it or nothing, and acknowledges each message. The headers are in the order of little-endian
 * machines. The messages have the numbers 1, 2, … in their order.
 */
export function nftBatch(messages: readonly NftMessage[]): Buffer {
  const edge = (type: number, sequence: number): Buffer =>
    message(type, NLM_F_REQUEST, sequence, generic(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES));
  return Buffer.concat([
    edge(NFNL_MSG_BATCH_BEGIN, 0),
    ...messages.map(({ type, flags, attributes }, index) =>
      message(
        (NFNL_SUBSYS_NFTABLES << 8) | type,
        NLM_F_REQUEST | NLM_F_ACK | flags,
        index + 1,
        Buffer.concat([generic(NFPROTO_INET, 0), ...attributes.map(attribute)]),
      ),
    ),
    edge(NFNL_MSG_BATCH_END, messages.length + 1),
  ]);
}

/** What the kernel says of one message. */
export interface Acknowledgement {
  readonly sequence: number;
  /** Of errno; 0 when it was done. */
  readonly error: number;
}

/** Reads the answers in one datagram; what is no acknowledgement is passed over. */
export function readAcknowledgements(datagram: Buffer): readonly Acknowledgement[] {
  const found: Acknowledgement[] = [];
  for (let at = 0; at + NLMSG_HEADER <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    if (length < NLMSG_HEADER || at + length > datagram.length) break;
    if (datagram.readUInt16LE(at + 4) === NLMSG_ERROR && length >= NLMSG_HEADER + 4)
      found.push({
        sequence: datagram.readUInt32LE(at + 8),
        error: -datagram.readInt32LE(at + NLMSG_HEADER) || 0,
      });
    at += aligned(length);
  }
  return found;
}

/** struct nfgenmsg */
function generic(family: number, resource: number): Buffer {
  return Buffer.concat([Buffer.from([family, 0]), be16(resource)]);
}

/** struct nlmsghdr, and what follows it. */
function message(type: number, flags: number, sequence: number, body: Buffer): Buffer {
  const header = Buffer.alloc(NLMSG_HEADER);
  header.writeUInt32LE(NLMSG_HEADER + body.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header.writeUInt32LE(sequence, 8);
  return Buffer.concat([header, body]);
}

function attribute({ type, value }: Attribute): Buffer {
  const isLeaf = Buffer.isBuffer(value);
  const body = isLeaf ? value : Buffer.concat(value.map(attribute));
  const bytes = Buffer.alloc(aligned(4 + body.length));
  bytes.writeUInt16LE(4 + body.length, 0);
  bytes.writeUInt16LE(isLeaf ? type : type | NLA_F_NESTED, 2);
  body.copy(bytes, 4);
  return bytes;
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
