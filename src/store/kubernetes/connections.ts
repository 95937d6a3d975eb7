import { Agent, type AgentOptions } from 'node:https';
import type { Access } from './connection.js';

/**
 * What a connection is for: a watch has one of its own; an urgent request never waits behind others, of which thousands
 * may wait for a connection.
 */
export type ConnectionUse = 'request' | 'urgent' | 'watch';

const MAX_CONNECTIONS = 32;
const MAX_URGENT_CONNECTIONS = 4;
const IDLE_MS = 60_000;

/** Kept connections, made anew when the TLS material is another: a certificate may be renewed while we run. */
export class Connections {
  #material: Access['tls'] | undefined;
  #agents: Record<ConnectionUse, Agent> | undefined;

  of({ tls }: Access, use: ConnectionUse): Agent {
    if (this.#agents === undefined || this.#material === undefined || !sameMaterial(this.#material, tls)) {
      // Requests that use the former agents end in peace; their idle connections close by themselves.
      this.#agents = newAgents(tls);
      this.#material = tls;
    }
    return this.#agents[use];
  }

  /** What is idle is dropped: a request has hung, so the others' connections may be as dead. */
  distrust(): void {
    for (const { freeSockets } of Object.values(this.#agents ?? {}))
      for (const socket of Object.values(freeSockets).flat()) socket?.destroy();
  }

  close(): void {
    for (const agent of Object.values(this.#agents ?? {})) agent.destroy();
    this.#agents = undefined;
  }
}

function newAgents(tls: Access['tls']): Record<ConnectionUse, Agent> {
  const options: AgentOptions = { ...tls, minVersion: 'TLSv1.2' };
  const kept = { ...options, keepAlive: true, timeout: IDLE_MS };
  return {
    request: new Agent({ ...kept, maxSockets: MAX_CONNECTIONS }),
    urgent: new Agent({ ...kept, maxSockets: MAX_URGENT_CONNECTIONS }),
    watch: new Agent({ ...options, keepAlive: false }),
  };
}

function sameMaterial(left: Access['tls'], right: Access['tls']): boolean {
  const fields = ['ca', 'cert', 'key', 'servername', 'rejectUnauthorized'] as const;
  return fields.every((field) => String(left[field]) === String(right[field]));
}
