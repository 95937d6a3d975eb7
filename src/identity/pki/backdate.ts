/** How far before its signing an SVID or an authority begins, in milliseconds: for verifiers whose clocks are a little behind. */
export const BACKDATE_MS = 10_000;
