import type { JsonValue } from '@bufbuild/protobuf';
import { SignetError } from '../lib/errors.js';
import type { Any } from './gen/google/protobuf/any.js';

/** Envoy's configuration, from JSON to the wire. */
export interface EnvoyMessages {
  /**
   * A message whose type `@type` names, at any depth.
   *
   * @throws SignetError `EnvoyMessageInvalid` for a type or field that proto/ does not have
   */
  encode(message: Readonly<Record<string, unknown>>): Any;
}

let loaded: Promise<EnvoyMessages> | undefined;

/** Over the descriptors built from proto/, which are read on first use. */
export function envoyMessages(): Promise<EnvoyMessages> {
  return (loaded ??= load());
}

async function load(): Promise<EnvoyMessages> {
  const [
    { createFileRegistry, fromBinary, fromJson, toBinary },
    { FileDescriptorSetSchema },
    { descriptorSet },
  ] = await Promise.all([
    import('@bufbuild/protobuf'),
    import('@bufbuild/protobuf/wkt'),
    import('./descriptors.js'),
  ]);
  const set = fromBinary(FileDescriptorSetSchema, Buffer.from(descriptorSet, 'base64'));
  const registry = createFileRegistry(set);
  return {
    encode({ '@type': typeUrl, ...fields }) {
      const name = typeof typeUrl === 'string' ? typeUrl.slice(typeUrl.lastIndexOf('/') + 1) : '';
      const schema = registry.getMessage(name);
      if (schema === undefined || typeof typeUrl !== 'string')
        throw new SignetError(
          'EnvoyMessageInvalid',
          `there is no message type "${name}" among those in proto/`,
        );
      try {
        return {
          typeUrl,
          value: Buffer.from(toBinary(schema, fromJson(schema, fields as JsonValue, { registry }))),
        };
      } catch (thrown) {
        const { message } = SignetError.from(thrown);
        throw new SignetError('EnvoyMessageInvalid', `${name}: ${message}`, { cause: thrown });
      }
    },
  };
}
