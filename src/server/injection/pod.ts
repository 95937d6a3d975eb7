/** Values as JSON has them. */
export type Fields = Readonly<Record<string, unknown>>;

/** A volume that a container sees. */
export interface Mount {
  readonly name: string;
  readonly mountPath: string;
  /** Set: not the volume's root is seen. */
  readonly subPath: string;
}

/** The kinds of probes that a container may have, by the names of their fields. */
export const PROBES = ['livenessProbe', 'readinessProbe', 'startupProbe'] as const;
export type ProbeKind = (typeof PROBES)[number];

/** A container, as far as it is looked at. */
export interface Container {
  readonly name: string;
  readonly mounts: readonly Mount[];
  readonly env: readonly string[];
  /** Ports that have a name. */
  readonly ports: ReadonlyMap<string, number>;
  readonly probes: ReadonlyMap<ProbeKind, Fields>;
  /** The HTTP calls of its lifecycle: `postStart`, `preStop`. */
  readonly hooks: ReadonlyMap<string, Fields>;
  /** Whether it has these lists at all: JSON Patch cannot add to a list that is not there (RFC 6902 §4.1). */
  readonly has: { readonly volumeMounts: boolean; readonly env: boolean };
}

/** A volume, as far as it is looked at. */
export interface Volume {
  readonly name: string;
  /** Of a CSI volume. */
  readonly driver: string | undefined;
  readonly attributes: Readonly<Record<string, string>>;
}

/** A pod that is being created, as far as it is looked at. */
export interface NewPod {
  /** For people: its name, or what the name is made from. */
  readonly title: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly hostNetwork: boolean;
  readonly os: string;
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly Volume[];
  readonly readinessGates: readonly string[];
  /** Lists that the spec has. */
  readonly has: {
    readonly initContainers: boolean;
    readonly volumes: boolean;
    readonly readinessGates: boolean;
  };
}

/** Reads a Pod that the API server has decoded: the types of its fields are right, any of them may be missing. */
export function readNewPod(object: Fields): NewPod {
  const metadata = fields(object['metadata']);
  const spec = fields(object['spec']);
  return {
    title: text(metadata['name']) || text(metadata['generateName']),
    labels: texts(metadata['labels']),
    annotations: texts(metadata['annotations']),
    hostNetwork: spec['hostNetwork'] === true,
    os: text(fields(spec['os'])['name']),
    initContainers: list(spec['initContainers']).map(readContainer),
    containers: list(spec['containers']).map(readContainer),
    volumes: list(spec['volumes']).map(readVolume),
    readinessGates: list(spec['readinessGates']).map((gate) => text(gate['conditionType'])),
    has: {
      initContainers: Array.isArray(spec['initContainers']),
      volumes: Array.isArray(spec['volumes']),
      readinessGates: Array.isArray(spec['readinessGates']),
    },
  };
}

function readContainer(container: Fields): Container {
  return {
    name: text(container['name']),
    mounts: list(container['volumeMounts']).map((mount) => ({
      name: text(mount['name']),
      mountPath: text(mount['mountPath']),
      subPath: text(mount['subPath']) || text(mount['subPathExpr']),
    })),
    env: list(container['env']).map(({ name }) => text(name)),
    ports: new Map(
      list(container['ports']).flatMap(({ name, containerPort }) =>
        typeof name === 'string' && typeof containerPort === 'number' ? [[name, containerPort]] : [],
      ),
    ),
    probes: new Map(
      PROBES.flatMap((kind) => (isFields(container[kind]) ? [[kind, container[kind]] as const] : [])),
    ),
    hooks: new Map(
      ['postStart', 'preStop'].flatMap((kind) => {
        const { httpGet } = fields(fields(container['lifecycle'])[kind]);
        return isFields(httpGet) ? [[kind, httpGet] as const] : [];
      }),
    ),
    has: { volumeMounts: Array.isArray(container['volumeMounts']), env: Array.isArray(container['env']) },
  };
}

function readVolume(volume: Fields): Volume {
  const csi = fields(volume['csi']);
  const driver = csi['driver'];
  return {
    name: text(volume['name']),
    driver: typeof driver === 'string' ? driver : undefined,
    attributes: texts(csi['volumeAttributes']),
  };
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}

function fields(value: unknown): Fields {
  return isFields(value) ? value : {};
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(fields) : [];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function texts(value: unknown): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(fields(value)).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
