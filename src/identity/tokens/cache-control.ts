/** How long keys are taken as fresh, in milliseconds, when the answer does not say. */
const DEFAULT_LIFETIME_MS = 5 * 60_000;
/** Bounds of what an answer may say: neither a flood of requests, nor a revoked key trusted for a day. */
const MIN_LIFETIME_MS = 60_000;
const MAX_LIFETIME_MS = 60 * 60_000;

/** How long an answer with this Cache-Control (RFC 9111 §5.2.2) is fresh, in milliseconds, within our bounds. */
export function freshFor(cacheControl: string | undefined): number {
  if (cacheControl === undefined) return DEFAULT_LIFETIME_MS;
  const directives = cacheControl.split(',').map((directive) => directive.trim().toLowerCase());
  if (directives.includes('no-store') || directives.includes('no-cache')) return MIN_LIFETIME_MS;
  for (const directive of directives) {
    const [, seconds] = /^max-age="?(\d{1,10})"?$/.exec(directive) ?? [];
    if (seconds !== undefined)
      return Math.min(MAX_LIFETIME_MS, Math.max(MIN_LIFETIME_MS, Number(seconds) * 1000));
  }
  return DEFAULT_LIFETIME_MS;
}
