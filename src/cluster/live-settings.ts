import { SignetError } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import { type Watched, WatchedValue } from '../lib/watched.js';
import type { StoreReader } from '../store/store.js';
import { findTrustDomain, trustDomainSettings, type TrustDomainSettings } from './trust-domain.js';

/** The settings of the trust domain as they are now, until it is closed. */
export interface LiveSettings extends Watched<TrustDomainSettings> {
  close(): void;
}

/** The fields of `wanted` that are not as in `present`. */
function otherSettings(
  wanted: TrustDomainSettings,
  present: TrustDomainSettings,
): readonly (keyof TrustDomainSettings)[] {
  return (Object.keys({ ...wanted, ...present }) as (keyof TrustDomainSettings)[]).filter(
    (field) => JSON.stringify(wanted[field]) !== JSON.stringify(present[field]),
  );
}

/**
 * Follows the TrustDomain of the store, from the settings that hold at first. What was in force stays where it is gone, is
 * one of several, has another name, or cannot be used.
 */
export function followSettings(
  store: StoreReader,
  initial: TrustDomainSettings,
  { flag, logger }: { readonly flag?: string; readonly logger: Logger },
): LiveSettings {
  const live = new WatchedValue(initial);
  let complaint = '';
  const look = (): void => {
    let told = '';
    try {
      const resource = findTrustDomain(store);
      if (resource?.spec.name !== initial.name) return;
      const next = trustDomainSettings({ resource, ...(flag === undefined ? {} : { flag }) });
      const fields = otherSettings(next, live.value);
      if (fields.length === 0) return;
      logger.info('the TrustDomain has changed, and what it says is in force', { fields: fields.join(', ') });
      live.set(next);
    } catch (thrown) {
      const { code, message } = SignetError.from(thrown);
      told = message;
      if (told !== complaint)
        logger.error('the TrustDomain cannot be used; what was in force stays', { code, reason: message });
    } finally {
      complaint = told;
    }
  };
  const unsubscribe = store.subscribe((changes) => {
    if (changes.some(({ kind }) => kind === 'TrustDomain')) look();
  });
  look();
  return {
    get value() {
      return live.value;
    },
    watch: (onChange) => live.watch(onChange),
    close: unsubscribe,
  };
}
