import type { FileDescriptorProto } from '@bufbuild/protobuf/wkt';
import { SignetError } from '../lib/errors.js';
import type { HandlersOf } from './definition.js';
import type {
  ServerReflectionRequest,
  ServerReflectionResponse,
  ServerReflectionService,
} from './gen/grpc/reflection/v1/reflection.js';

/** gRPC status codes that reflection puts into its answers. */
const NOT_FOUND = 5;
const INVALID_ARGUMENT = 3;

/** The files of proto/, found by name and by what they define. */
interface Catalog {
  /** A file and all that it imports, serialized, the file first. */
  withImports(fileName: string): Uint8Array[] | undefined;
  /** The file that defines a package's message, enum, service or method. */
  fileOf(symbol: string): string | undefined;
}

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

/**
 * Server reflection (grpc/doc/server-reflection.md), over the descriptors built from proto/. `services` are the full
 * names of what the server serves. The descriptors are read on first use: most processes are never asked.
 */
export function reflectionHandlers(
  services: () => readonly string[],
): HandlersOf<typeof ServerReflectionService> {
  let catalog: Promise<Catalog> | undefined;
  return {
    async serverReflectionInfo(requests, _context, sink) {
      catalog ??= loadCatalog();
      const files = await catalog;
      for await (const request of requests)
        await sink.write({
          validHost: request.host,
          originalRequest: request,
          messageResponse: answer(request, files, services),
        });
    },
  };
}

function answer(
  request: ServerReflectionRequest,
  catalog: Catalog,
  services: () => readonly string[],
): Answer {
  const asked = request.messageRequest;
  switch (asked?.$case) {
    case 'listServices':
      return { $case: 'listServicesResponse', value: { service: services().map((name) => ({ name })) } };
    case 'fileByFilename':
      return filesAnswer(catalog, asked.value, `file ${asked.value}`);
    case 'fileContainingSymbol':
      return filesAnswer(catalog, catalog.fileOf(asked.value), `symbol ${asked.value}`);
    case 'fileContainingExtension':
      return refusal(NOT_FOUND, `extension ${asked.value.extensionNumber} of ${asked.value.containingType}`);
    case 'allExtensionNumbersOfType':
      // proto3 has none; a type that is known has an empty list.
      return catalog.fileOf(asked.value) === undefined
        ? refusal(NOT_FOUND, `type ${asked.value}`)
        : {
            $case: 'allExtensionNumbersResponse',
            value: { baseTypeName: asked.value, extensionNumber: [] },
          };
    case undefined:
      return {
        $case: 'errorResponse',
        value: { errorCode: INVALID_ARGUMENT, errorMessage: 'message_request is not set' },
      };
  }
}

function filesAnswer(catalog: Catalog, fileName: string | undefined, what: string): Answer {
  const files = fileName === undefined ? undefined : catalog.withImports(fileName);
  return files === undefined
    ? refusal(NOT_FOUND, what)
    : {
        $case: 'fileDescriptorResponse',
        value: { fileDescriptorProto: files.map((file) => Buffer.from(file)) },
      };
}

function refusal(errorCode: number, what: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage: `not found: ${what.slice(0, 300)}` } };
}

async function loadCatalog(): Promise<Catalog> {
  const [
    { fromBinary, toBinary },
    { FileDescriptorProtoSchema, FileDescriptorSetSchema },
    { descriptorSet },
  ] = await Promise.all([
    import('@bufbuild/protobuf'),
    import('@bufbuild/protobuf/wkt'),
    import('./descriptors.js'),
  ]);
  const { file: all } = fromBinary(FileDescriptorSetSchema, Buffer.from(descriptorSet, 'base64'));
  const byName = new Map(all.map((file) => [file.name, file]));
  const bySymbol = new Map(
    all.flatMap((file) => symbolsOf(file).map((symbol) => [symbol, file.name] as const)),
  );
  return {
    fileOf: (symbol) => bySymbol.get(symbol),
    withImports(fileName) {
      if (!byName.has(fileName)) return undefined;
      const wanted = new Set([fileName]);
      // A set that grows while it is walked: imports of imports are reached, each once.
      for (const name of wanted) {
        const file = byName.get(name);
        if (file === undefined) throw new SignetError('Internal', `the descriptors lack ${name}`);
        for (const dependency of file.dependency) wanted.add(dependency);
      }
      return [...wanted].flatMap((name) => {
        const file = byName.get(name);
        return file === undefined ? [] : [toBinary(FileDescriptorProtoSchema, file)];
      });
    },
  };
}

interface NestedTypes {
  readonly name: string;
  readonly nestedType: readonly NestedTypes[];
  readonly enumType: readonly { readonly name: string }[];
}

/** Full names of everything that a file defines. */
function symbolsOf(file: FileDescriptorProto): string[] {
  const prefix = file.package === '' ? '' : `${file.package}.`;
  const typesIn = (types: readonly NestedTypes[], scope: string): string[] =>
    types.flatMap(({ name, nestedType, enumType }) => [
      `${scope}${name}`,
      ...typesIn(nestedType, `${scope}${name}.`),
      ...enumType.map((nested) => `${scope}${name}.${nested.name}`),
    ]);
  return [
    ...typesIn(file.messageType, prefix),
    ...file.enumType.map(({ name }) => `${prefix}${name}`),
    ...file.service.flatMap(({ name, method }) => [
      `${prefix}${name}`,
      ...method.map((one) => `${prefix}${name}.${one.name}`),
    ]),
  ];
}
