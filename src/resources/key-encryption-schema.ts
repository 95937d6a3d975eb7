import { filePath } from './forms.js';
import type { KeyEncryptionPlace, TrustDomainSpec } from './identity.js';
import type { Fields } from './schema.js';
import { exactlyOneOf, marker, objectSchema, optional, text } from './schema.js';

/* Of the TrustDomain: which key seals those of the authorities. */

const keyEncryptionPlace: Fields<KeyEncryptionPlace> = {
  local: optional(
    objectSchema<{ readonly keyFile: string }>('A key-encryption key in a file.', {
      keyFile: filePath('32 bytes, raw or as base64 text.'),
    }),
  ),
  kms: optional(
    objectSchema<{ readonly socket: string }>('A key in a KMS, behind a Kubernetes KMS v2 plugin.', {
      socket: text('The unix socket of the plugin.', {
        minLength: 2,
        maxLength: 100,
        pattern: '^/[^\\x00]+$',
        form: 'write an absolute path such as "/var/run/kmsplugin/socket.sock"',
      }),
    }),
  ),
  builtIn: optional(marker('The key in Secret signet-key-encryption, which the servers of a cluster make.')),
};
const onePlace = exactlyOneOf(['local', 'kms', 'builtIn']);

export const keyEncryption = objectSchema<NonNullable<TrustDomainSpec['keyEncryption']>>(
  'How authority keys are sealed at rest; builtIn in a cluster unless said.',
  {
    ...keyEncryptionPlace,
    previous: optional(
      objectSchema<KeyEncryptionPlace>(
        'The key that sealed them before: what it has sealed opens, and is sealed anew. Take it away once condition KeysSealed says so.',
        keyEncryptionPlace,
        { rules: [onePlace] },
      ),
    ),
  },
  {
    rules: [
      onePlace,
      {
        rule: '!has(self.previous) || !((has(self.previous.local) && has(self.local) && self.previous.local.keyFile == self.local.keyFile) || (has(self.previous.kms) && has(self.kms) && self.previous.kms.socket == self.kms.socket) || (has(self.previous.builtIn) && has(self.builtIn)))',
        message: 'previous names the same key as keyEncryption itself',
        fix: 'name the key that sealed before, or leave previous out',
      },
    ],
  },
);
