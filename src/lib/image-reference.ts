const DIGEST = /@sha256:[0-9a-f]{64}$/;

/** Whether a reference says exactly which image it means. */
export function namesDigest(image: string): boolean {
  return DIGEST.test(image);
}

/** Whether an image reference is `allowed` itself or lies below it, up to a `/`, `:` or `@`. */
export function imageIsUnder(image: string, allowed: string): boolean {
  const prefix = allowed.replace(/\/+$/, '');
  if (prefix === '' || !image.startsWith(prefix)) return false;
  const rest = image.slice(prefix.length);
  if (rest === '') return true;
  if (rest.startsWith('/')) return true;
  // A `/` after `:` or `@` makes that a port of another registry, not a tag: `host` must not allow `host:5000/x`.
  return allowed === prefix && (rest.startsWith(':') || rest.startsWith('@')) && !rest.includes('/');
}
