const MAX_URL_LENGTH = 2048;

/**
 * Why keys may not be fetched from this URL, or undefined when they may: `https`, or `http` to this machine where
 * `loopback` allows it. Whoever changes the answer on its way would sign for the issuer.
 */
export function keyUrlProblem(text: string, loopback: boolean): string | undefined {
  if (text.length > MAX_URL_LENGTH) return `is longer than ${MAX_URL_LENGTH} characters`;
  if (!URL.canParse(text)) return 'is no absolute URL';
  const url = new URL(text);
  if (url.username !== '' || url.password !== '') return 'holds a user name or password';
  if (url.hash !== '') return 'has a fragment';
  if (url.protocol === 'https:') return undefined;
  if (url.protocol !== 'http:') return 'is no https URL';
  if (!isLoopback(url)) return 'is http; only https is safe for keys (http is taken for a loopback address)';
  return loopback ? undefined : 'is http to this machine, and the issuer is another one';
}

/** Whether a URL names this machine. */
export function isLoopback({ hostname }: URL): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
}
