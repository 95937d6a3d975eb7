import { Backoff } from '../../lib/backoff.js';
import { SignetError } from '../../lib/errors.js';
import type { Random } from '../../lib/random.js';
import { type Watched, WatchedValue } from '../../lib/watched.js';
import type { VolumeSettings } from '../csi/settings.js';
import { LONGEST_LOOK_MS } from '../rotation.js';
import { podSubject } from '../subject.js';
import type { SubjectView } from '../views.js';
import { Waiter } from '../waiter.js';
import type { WorkloadApiParts } from '../workload-api.js';
import type { Encoders } from './encoders.js';
import { First } from './first.js';
import { findLack, type Lack } from './lack.js';
import { type IdentityContent, type PlannedFile, planIdentity } from './plan.js';
import { type Chosen, select, type Selection } from './selection.js';
import { hasCode, type LiveFile, type NewFile, SetDirectory } from './set-directory.js';
import { type TokenLook, Tokens } from './tokens.js';

/** What files are made from: of an agent's parts. */
export type FilesParts = Pick<WorkloadApiParts, 'clock' | 'limits' | 'views' | 'jwt' | 'logger' | 'refusal'>;

/** The files of one volume. */
export interface FilesRequest {
  readonly podUid: string;
  readonly settings: VolumeSettings;
  /** The group that files get; the process's own unless given. */
  readonly group?: number;
  /** Where they are written; other things in it are left alone. */
  readonly directory: string;
  /** How long the first set may take: see {@link VolumeFiles.written}. Does not end the following. */
  readonly signal: AbortSignal;
}

/** How the files are. `reason` is for people. */
export type FilesState =
  /** Nothing is there yet. */
  | { readonly kind: 'waiting'; readonly reason: string }
  /** All that there should be. */
  | { readonly kind: 'current' }
  /** Not written; what was there before still is, until it expires. */
  | { readonly kind: 'failing'; readonly reason: string }
  /** Removed, because the pod has not, or has no longer, what they are of. */
  | { readonly kind: 'withdrawn'; readonly reason: string };

/** Files that are kept in step until they are closed. */
export interface VolumeFiles {
  /**
   * Resolves when the first whole set is there. Rejects with SignetError when there will be none (the pod has no such
   * identity, or may not have a token) or when the request's signal is aborted before: the message says what was
   * missing. Whatever it does, the files are followed until {@link close}.
   */
  readonly written: Promise<void>;
  readonly state: Watched<FilesState>;
  /** Stops following. The files stay as they are: whoever owns the directory removes it. */
  close(): Promise<void>;
}

/** Back-off of writing. Space comes back when somebody makes some. */
const WRITE_BACKOFF = { initialMs: 500, maxMs: 30_000 };

/** Follows one volume: looks at what the pod may have, and writes it whenever it differs from what is there. */
export class FollowedVolume implements VolumeFiles {
  readonly state = new WatchedValue<FilesState>({ kind: 'waiting', reason: 'nothing was looked at yet' });
  readonly #parts: FilesParts;
  readonly #request: FilesRequest;
  readonly #encoders: Encoders;
  readonly #directory: SetDirectory;
  readonly #ended = new AbortController();
  readonly #waiter: Waiter;
  readonly #view: SubjectView;
  readonly #tokens: Tokens;
  readonly #first: First;
  readonly #backoff: Backoff;
  readonly #logger: FilesParts['logger'];
  readonly #running: Promise<void>;
  /** Whose files are there, by directory: the registration's ID. */
  readonly #published = new Map<string, string>();
  /** Since when something is not registered, or some identities are on their way, in monotonic milliseconds. */
  #absentSince: number | undefined;
  #partialSince: number | undefined;
  /** What the server has been asked about, and does not know. */
  #confirmed: string | undefined;
  /** Not to be written before, in monotonic milliseconds. */
  #retryAt = 0;
  #warnedOf = '';

  /** @throws the file system's error */
  constructor(parts: FilesParts, request: FilesRequest, shared: { encoders: Encoders; random: Random }) {
    const { clock, views } = parts;
    this.#parts = parts;
    this.#request = request;
    this.#encoders = shared.encoders;
    this.#logger = parts.logger.child({ pod: request.podUid });
    this.#directory = new SetDirectory(request.directory, request.group, clock);
    this.#backoff = new Backoff(WRITE_BACKOFF, shared.random);
    this.#waiter = new Waiter(clock, this.#ended.signal);
    this.#view = views.acquire(podSubject(request.podUid), this.#waiter);
    this.#tokens = new Tokens({
      jwt: parts.jwt,
      clock,
      limits: parts.limits,
      random: shared.random,
      audiences: request.settings.jwtAudiences,
      stop: this.#ended.signal,
      onChange: () => this.#waiter.poke(),
    });
    this.#first = new First(request.signal, () => this.#waiter.poke());
    this.#running = this.#run();
  }

  get written(): Promise<void> {
    return this.#first.done;
  }

  async close(): Promise<void> {
    this.#ended.abort(new SignetError('Cancelled', 'the files of the volume are not followed any more'));
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        const wait = await this.#step();
        await this.#waiter.wait(Math.min(wait, LONGEST_LOOK_MS));
      }
    } catch (error) {
      const { code, message } = SignetError.from(error);
      if (!this.#ended.signal.aborted) {
        // The volume's directory is gone, or a bug: whoever waits for files must not wait for ever.
        this.#logger.error('the files of a volume are not followed any more', { code, error: message });
        this.state.set({ kind: 'failing', reason: message });
      }
      this.#first.fail(error);
    } finally {
      this.#parts.views.release(this.#view, this.#waiter);
      this.#waiter.close();
      this.#directory.close();
    }
  }

  /** One look at everything. Returns after how many milliseconds the next is due if nothing happens before. */
  async #step(): Promise<number> {
    const { clock } = this.#parts;
    const { settings } = this.#request;
    const selection = select(this.#view, settings);
    this.#warnOfClashes(selection);
    this.#withdraw(selection);
    this.#tokens.keepOnly(selection.chosen.map(({ registration }) => registration));
    const looks = new Map(selection.chosen.map((one) => [one, this.#tokens.look(one.registration)] as const));
    const waits = [...looks.values()].map(({ lookInMs }) => lookInMs);

    const lack = findLack(this.#view, selection, looks, settings.files.length > 0);
    const { wait, final } = await this.#lacking(lack);
    waits.push(wait);
    const settling = lack === undefined ? this.#settling(selection) : 0;
    if (settling > 0) waits.push(settling);
    else if (lack === undefined || this.#first.over) {
      const contents = this.#contents(selection, looks);
      if (contents.length === 0 && final) this.#removeAll(lack?.message ?? '');
      if (contents.length > 0 && (await this.#write(contents)) && lack === undefined) this.#first.succeed();
    }
    if (this.#first.late) this.#first.fail(this.#unwritten(lack));
    waits.push(this.#retryAt > clock.monotonic() ? this.#retryAt - clock.monotonic() : Infinity);
    for (const { expiresAt, endsAt } of this.#directory.live.values())
      waits.push(expiresAt - clock.now(), endsAt - clock.monotonic());
    return Math.max(0, Math.min(...waits));
  }

  /** Tells whoever waits for the first set what is lacking, as soon as waiting will not help. */
  async #lacking(lack: Lack | undefined): Promise<{ readonly wait: number; readonly final: boolean }> {
    if (lack?.absent === true) return this.#absent(lack);
    this.#absentSince = undefined;
    this.#confirmed = undefined;
    if (lack === undefined) return { wait: Infinity, final: false };
    this.#view.urge();
    this.#isWaiting(lack.message);
    if (lack.final) this.#first.fail(new SignetError(lack.code, lack.message));
    return { wait: Infinity, final: lack.final };
  }

  /** Something is not registered: held for a while, as a caller of the Workload API is, then the server is asked why. */
  async #absent(lack: Lack): Promise<{ readonly wait: number; readonly final: boolean }> {
    const { clock, limits } = this.#parts;
    if (this.#confirmed === lack.message) return { wait: Infinity, final: true };
    this.#isWaiting(lack.message);
    this.#absentSince ??= clock.monotonic();
    const left = this.#absentSince + limits.holdMs - clock.monotonic();
    if (left > 0 && !this.#first.late) return { wait: left, final: false };
    const known = this.#view.registrations.length > 0;
    const error = known
      ? new SignetError(lack.code, lack.message)
      : await this.#parts.refusal(this.#view, this.#ended.signal);
    this.#isWaiting(error.message);
    // What is not known because the server is away may be registered all the same.
    const final = left <= 0 && (known || error.code === 'NoIdentity');
    if (final || this.#first.late) this.#first.fail(error);
    if (final) this.#confirmed = lack.message;
    this.#absentSince = undefined;
    return { wait: final ? Infinity : limits.holdMs, final };
  }

  #isWaiting(reason: string): void {
    const { kind } = this.state.value;
    if (kind === 'waiting' || kind === 'withdrawn') this.state.set({ kind, reason });
  }

  /** How much longer to wait for the rest of what `hints: *` brings, in milliseconds. */
  #settling({ chosen }: Selection): number {
    const { clock, limits } = this.#parts;
    const coming = chosen.some(
      ({ identity, registration }) =>
        identity === undefined && !this.#view.failures.some((one) => one.registration === registration),
    );
    if (!coming || this.#request.settings.files.length === 0 || this.#first.over) {
      this.#partialSince = undefined;
      return 0;
    }
    this.#partialSince ??= clock.monotonic();
    return this.#first.late ? 0 : this.#partialSince + limits.settleMs - clock.monotonic();
  }

  /** Removes at once what has expired, and what the pod has not any more. */
  #withdraw({ chosen }: Selection): void {
    const { clock } = this.#parts;
    const [now, monotonic] = [clock.now(), clock.monotonic()];
    this.#remove('have expired', (_path, { expiresAt, endsAt }) => expiresAt <= now || endsAt <= monotonic);
    const needsSvid = this.#request.settings.files.length > 0;
    for (const [directory, id] of this.#published) {
      const here = chosen.some(
        (one) =>
          one.directory === directory &&
          one.registration.id === id &&
          (!needsSvid || one.identity !== undefined),
      );
      if (here) continue;
      this.#remove('are of an identity that the pod has no longer', (path) => this.#isIn(path, directory));
      this.#published.delete(directory);
    }
  }

  #isIn(path: string, directory: string): boolean {
    const [top = ''] = path.split('/', 1);
    return this.#published.has(top) ? top === directory : directory === '';
  }

  #remove(why: string, gone: (path: string, file: LiveFile) => boolean): void {
    const files = this.#directory.withdraw(gone);
    if (files.length === 0) return;
    this.#logger.warn('files of a volume are removed', { why: `they ${why}`, files: files.slice(0, 16) });
    if (this.#directory.live.size === 0)
      this.state.set({ kind: 'withdrawn', reason: `the files ${why} and are removed` });
  }

  /** The server knows of nothing that they could be of: what another process left, as a rule. */
  #removeAll(reason: string): void {
    this.#published.clear();
    this.#remove(`may not be there: ${reason}`, () => true);
  }

  /** Whose files can be there now. */
  #contents({ chosen }: Selection, looks: ReadonlyMap<Chosen, TokenLook>): readonly IdentityContent[] {
    const bundle = this.#view.ownBundle;
    if (bundle === undefined) return [];
    const needsSvid = this.#request.settings.files.length > 0;
    return chosen.flatMap((one) => {
      const { directory, identity, registration } = one;
      if (needsSvid && identity === undefined) return [];
      return [
        {
          directory,
          registrationId: registration.id,
          ...(needsSvid && identity !== undefined ? { identity } : {}),
          bundle,
          federated: this.#view.foreignBundles.filter((foreign) =>
            registration.federatesWith.includes(foreign.bundle.trustDomain),
          ),
          tokens: looks.get(one)?.tokens ?? new Map(),
        },
      ];
    });
  }

  /** Whether the files are there now; a failure is told, and tried again later. */
  async #write(contents: readonly IdentityContent[]): Promise<boolean> {
    const { clock } = this.#parts;
    const { settings, group } = this.#request;
    const planned = contents.flatMap((content) =>
      planIdentity(content, { settings, group, encoders: this.#encoders }),
    );
    const isSame =
      planned.length === this.#directory.live.size &&
      planned.every(({ path, version }) => this.#directory.has(path, version));
    if (!isSame) {
      if (clock.monotonic() < this.#retryAt) return false;
      try {
        this.#directory.publish(await Promise.all(planned.map((file) => this.#made(file))));
      } catch (error) {
        this.#failed(error);
        return false;
      }
      this.#logger[this.state.value.kind === 'failing' ? 'info' : 'debug'](
        'the files of a volume are written',
        {
          files: planned.length,
        },
      );
    }
    this.#published.clear();
    for (const { directory, registrationId } of contents) this.#published.set(directory, registrationId);
    this.#backoff.reset();
    this.#retryAt = 0;
    if (this.state.value.kind !== 'current') this.state.set({ kind: 'current' });
    return true;
  }

  async #made({ make, ...file }: PlannedFile): Promise<NewFile> {
    return this.#directory.has(file.path, file.version) ? file : { ...file, content: await make() };
  }

  #failed(thrown: unknown): void {
    const error = writeError(thrown);
    const delay = this.#backoff.next();
    this.#retryAt = this.#parts.clock.monotonic() + delay;
    // Once: it fails again and again until somebody makes room.
    if (this.state.value.kind !== 'failing')
      this.#logger.warn('the files of a volume cannot be written; those that are there stay', {
        code: error.code,
        error: error.message,
        retryInMs: Math.round(delay),
      });
    this.state.set({ kind: 'failing', reason: error.message });
  }

  /** What is told to whoever has waited long enough. */
  #unwritten(lack: Lack | undefined): SignetError {
    if (lack !== undefined) return new SignetError(lack.code, lack.message);
    const reason = this.state.value.kind === 'failing' ? this.state.value.reason : 'they are being written';
    return new SignetError('FilesNotWritten', `the files of the volume are not there: ${reason}`);
  }

  #warnOfClashes({ clashing }: Selection): void {
    const text = clashing.join(', ');
    if (text !== '' && text !== this.#warnedOf)
      this.#logger.warn('identities get no directory in a volume: its name is taken by another file', {
        hints: clashing.slice(0, 16),
      });
    this.#warnedOf = text;
  }
}

function writeError(thrown: unknown): SignetError {
  const full = ['ENOSPC', 'EDQUOT'].find((code) => hasCode(thrown, code));
  if (full === undefined) return SignetError.from(thrown);
  return new SignetError(
    'VolumeFull',
    `there is no room for the files of the volume (${full}): the memory for volumes on this node is used up; ask for fewer files, or give it more`,
    { cause: thrown },
  );
}
