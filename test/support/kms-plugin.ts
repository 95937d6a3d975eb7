import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { systemClock } from '../../src/lib/clock.js';
import { silentLogger } from '../../src/lib/logger.js';
import { KeyManagementServiceService } from '../../src/rpc/gen/kms/api.js';
import { createRpcServer, type RpcServer } from '../../src/rpc/server.js';
import { StatusError } from '../../src/rpc/service.js';

/** A plugin as a KMS's vendor writes it: keys by id, and what is sealed says nothing by itself. */
export class KmsPluginProgram {
  readonly keys = new Map<string, Buffer>([['key-1', randomBytes(32)]]);
  current = 'key-1';
  healthz = 'ok';
  version = 'v2';
  /** What was asked, in order. */
  readonly asked: string[] = [];
  /** What it says in place of its answer. */
  ciphertext: Buffer | undefined;
  /** Waited for before anything is encrypted. */
  held: (() => Promise<void>) | undefined;
  #server: RpcServer | undefined;

  async start(path: string): Promise<void> {
    const server = createRpcServer({ logger: silentLogger, clock: systemClock, standardServices: false });
    server.service(KeyManagementServiceService, {
      status: () => {
        this.asked.push('status');
        return Promise.resolve({ version: this.version, healthz: this.healthz, keyId: this.current });
      },
      encrypt: async ({ plaintext, uid }) => {
        this.asked.push(`encrypt ${uid === '' ? 'without uid' : 'with uid'}`);
        await this.held?.();
        const nonce = randomBytes(12);
        const cipher = createCipheriv('aes-256-gcm', this.#key(this.current), nonce);
        const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
        return {
          ...{ ciphertext: this.ciphertext ?? ciphertext, keyId: this.current },
          annotations: { 'nonce.kms.example.org': nonce },
        };
      },
      decrypt: ({ ciphertext, keyId, annotations }) => {
        this.asked.push(`decrypt ${keyId}`);
        const nonce = annotations['nonce.kms.example.org'] ?? Buffer.alloc(12);
        const decipher = createDecipheriv('aes-256-gcm', this.#key(keyId), nonce);
        decipher.setAuthTag(ciphertext.subarray(-16));
        return Promise.resolve({
          plaintext: Buffer.concat([decipher.update(ciphertext.subarray(0, -16)), decipher.final()]),
        });
      },
    });
    await server.listenUnix({ path, mode: 0o600, name: 'kms', peerCredentials: false });
    this.#server = server;
  }

  async stop(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }

  #key(id: string): Buffer {
    const key = this.keys.get(id);
    if (key === undefined) throw new StatusError('NotFound', `there is no key ${id}`);
    return key;
  }
}
