import type { VolumeSettings } from './settings.js';

/** A volume that the kubelet has asked for. Plain data: it is kept as JSON while the volume lives. */
export interface Volume {
  /** The kubelet's handle. */
  readonly id: string;
  readonly podUid: string;
  readonly namespace: string;
  readonly podName: string;
  readonly serviceAccount: string;
  /** Where the kubelet wants it, absolute. */
  readonly targetPath: string;
  /** The pod's fsGroup, which the volume's files shall have. */
  readonly group?: number;
  readonly settings: VolumeSettings;
}

/** What is served and written in a volume, while it is. */
export interface VolumeContent {
  /** Closes sockets and stops writing. The files stay; whoever owns the directory removes it. */
  close(): Promise<void>;
  /** What the pod lacks at the moment, for people; undefined when all is well. It becomes the volume's health. */
  problem?(): string | undefined;
}

/**
 * Fills a volume's directory: opens its sockets, and writes its files if any are asked for. Resolves when the pod may
 * start. Whatever was opened is closed again before it rejects.
 *
 * Rejects with SignetError, whose message becomes the event of a pod that cannot start: it says what is wrong and how to
 * mend it. Aborted, it rejects with the signal's reason.
 */
export type OpenContent = (
  volume: Volume,
  dataDirectory: string,
  signal: AbortSignal,
) => Promise<VolumeContent>;
