import type {
  InventoryGateway,
  InventoryService,
  PortProtocol,
  ServicePort,
} from '../access/mesh/inventory.js';
import type { StoredObject, StoreReader } from '../store/store.js';

/** What is not looked into further. */
export type Fields = Readonly<Record<string, unknown>>;

/** The Services that stand for pods, in order. One without an address of its own (ExternalName) is none. */
export function readServices(store: StoreReader): readonly InventoryService[] {
  return inOrder(store.list('Service')).flatMap((object): readonly InventoryService[] => {
    const spec = specOf(object);
    if (spec['type'] === 'ExternalName') return [];
    return [
      {
        ...named(object),
        selector: texts(spec['selector']),
        ports: list(spec['ports']).flatMap(servicePort),
        ...(spec['clusterIP'] === 'None' ? { headless: true } : {}),
      },
    ];
  });
}

/** The Gateways of the Gateway API, in order. */
export function readGateways(store: StoreReader): readonly InventoryGateway[] {
  return inOrder(store.list('Gateway')).map((object) => ({
    ...named(object),
    className: textOr(specOf(object)['gatewayClassName'], ''),
  }));
}

function servicePort({ port, targetPort, protocol, appProtocol, name }: Fields): readonly ServicePort[] {
  if (typeof port !== 'number' || (protocol !== undefined && protocol !== 'TCP')) return [];
  const target = typeof targetPort === 'number' || typeof targetPort === 'string' ? targetPort : port;
  const said = typeof appProtocol === 'string' ? APP_PROTOCOLS[appProtocol] : undefined;
  return [{ port, targetPort: target, protocol: said ?? protocolOf(textOr(name, '')) }];
}

/** Those of Kubernetes (KEP-3726), beside the names that meshes use in port names too. */
const APP_PROTOCOLS: Readonly<Record<string, PortProtocol>> = {
  http: 'http',
  http2: 'http2',
  grpc: 'grpc',
  tcp: 'tcp',
  tls: 'tcp',
  https: 'tcp',
  'kubernetes.io/h2c': 'http2',
  'kubernetes.io/ws': 'http',
  'kubernetes.io/wss': 'tcp',
};

const PROTOCOLS: Readonly<Record<string, PortProtocol>> = {
  http2: 'http2',
  grpc: 'grpc',
  tcp: 'tcp',
  tls: 'tcp',
  https: 'tcp',
  mongo: 'tcp',
  mysql: 'tcp',
  postgres: 'tcp',
  redis: 'tcp',
};

/** What a port speaks by the first part of its name, as meshes tell it (`grpc-api`, `tcp`); HTTP unless it says. */
export function protocolOf(name: string): PortProtocol {
  return PROTOCOLS[name.split('-')[0] ?? ''] ?? 'http';
}

function named({ metadata }: StoredObject): Pick<InventoryGateway, 'namespace' | 'name' | 'labels'> {
  return {
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    labels: texts(metadata.labels),
  };
}

function specOf(object: StoredObject): Fields {
  const { spec } = object as { readonly spec?: unknown };
  return typeof spec === 'object' && spec !== null ? (spec as Fields) : {};
}

function texts(value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

function textOr(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

const keyOf = ({ metadata }: StoredObject): string => `${metadata.namespace ?? 'default'}/${metadata.name}`;

function inOrder(objects: readonly StoredObject[]): readonly StoredObject[] {
  return [...objects].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

export function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? (value as readonly Fields[]) : [];
}
