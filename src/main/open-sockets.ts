/** A unix socket that is open. */
export interface OpenSocket {
  readonly path: string;
  /** Whether the path leads here: not once another process has taken it over. */
  isCurrent(): Promise<boolean>;
  close(): Promise<void>;
}

/** Closes sockets, and what else closes, one after the other. */
export async function closeAll(open: readonly { close(): unknown }[]): Promise<void> {
  for (const one of open) await one.close();
}
