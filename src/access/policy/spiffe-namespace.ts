/** The namespace of a path `/ns/<namespace>/<more>`, from the start and by whole segments. */
export function namespaceOf(path: string): string | undefined {
  if (!path.startsWith('/ns/')) return undefined;
  const end = path.indexOf('/', 4);
  return end < 0 ? undefined : path.slice(4, end);
}

/** The SPIFFE ID that stands for a service account. */
export function serviceAccountUri(account: {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}): string {
  return `spiffe://${account.trustDomain}/ns/${account.namespace}/sa/${account.serviceAccount}`;
}
