/*
 * The identity of a replica in elections holds where the other replicas reach it: `<host>_<ip:port>_<random>`, so that
 * whoever sees who leads knows the leader's address. None of the parts can hold an underscore.
 */

/** A name for this process and no other; without an address, the others do not reach it. */
export function replicaIdentity(host: string, address: string | undefined, random: string): string {
  return [host, ...(address === undefined ? [] : [address]), random]
    .map((part) => part.replaceAll('_', '-'))
    .join('_');
}

/** Where this replica is reached, `ip:port`; undefined when it does not say. */
export function addressOfReplica(identity: string): string | undefined {
  const parts = identity.split('_');
  return parts.length === 3 ? parts[1] : undefined;
}
