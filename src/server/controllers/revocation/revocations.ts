import type { Registration } from '../../../identity/registration/registration.js';
import type { Revocation } from '../../../resources/revocation.js';

/** The revocations that hold at one moment. A value: the next moment has another. */
export class Revocations {
  /** By what is revoked. The first by name speaks for all. */
  readonly #ids = new Map<string, Revocation>();
  readonly #pods = new Map<string, readonly Revocation[]>();
  readonly #serials: readonly string[];
  /** All of them, by name. */
  readonly all: readonly Revocation[];

  constructor(inForce: readonly Revocation[]) {
    this.all = inForce;
    const serials = new Set<string>();
    for (const revocation of inForce) {
      const { spiffeID, pod, serialNumber } = revocation.spec.subject;
      if (spiffeID !== undefined && !this.#ids.has(spiffeID)) this.#ids.set(spiffeID, revocation);
      if (pod !== undefined) {
        const key = `${pod.namespace}/${pod.name}`;
        this.#pods.set(key, [...(this.#pods.get(key) ?? []), revocation]);
      }
      if (serialNumber !== undefined) serials.add(asOfSvid(serialNumber));
    }
    this.#serials = [...serials].sort();
  }

  /** Serial numbers of X.509-SVIDs, as those have them, sorted. */
  get serials(): readonly string[] {
    return this.#serials;
  }

  /** What revokes a SPIFFE ID, e.g. that of an agent. */
  ofId(uri: string): Revocation | undefined {
    return this.#ids.get(uri);
  }

  /** What revokes a registration, by its SPIFFE ID or its pod. */
  of({ spiffeId, subject }: Registration): Revocation | undefined {
    if (this.#ids.size === 0 && this.#pods.size === 0) return undefined;
    const byId = this.#ids.get(spiffeId.uri);
    if (byId !== undefined || subject.kind !== 'pod') return byId;
    return this.#pods
      .get(`${subject.namespace}/${subject.name}`)
      ?.find(({ spec }) => (spec.subject.pod?.uid ?? subject.uid) === subject.uid);
  }
}

/**
 * A serial number as an SVID's is written: whole bytes in hex, none of the first ones zero. Programs that print certificates differ
 * in the zeros that they leave out, and one SVID in sixteen has a serial number with a zero before its first byte's only digit.
 */
function asOfSvid(serialNumber: string): string {
  const digits = serialNumber.replace(/^0+(?=.)/, '');
  return digits.length % 2 === 0 ? digits : `0${digits}`;
}

/** Whether it holds by its `until`. One that cannot be read is no end: the API server knows zones (`+24:00`) that we do not. */
export function isInForce({ spec }: Revocation, now: number): boolean {
  return spec.until === undefined || !(now >= Date.parse(spec.until));
}

/** For people, in the answer to who asks why there is no identity. */
export function revokedText({ metadata, spec }: Revocation): string {
  const until = spec.until === undefined ? '' : ` until ${spec.until}`;
  return `it is revoked by Revocation ${metadata.name}${until}: ${spec.reason}`;
}
