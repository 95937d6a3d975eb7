/** What a kube-apiserver would say of custom resources by their CRDs, said by its own code: schema, unknown fields, CEL. */
import { startLineProgram } from './line-program.js';
import * as rig from './rig.js';

export interface KubeSchema {
  /** For each object its problems, in order: none if it would be taken. An object whose kind no CRD serves is a problem. */
  validate(objects: readonly unknown[]): Promise<readonly (readonly string[])[]>;
  close(): Promise<void>;
}

/** Starts a checker for the CRDs in these YAML files, e.g. `await rig.crds('cilium')`. Metadata is not checked. */
export async function startKubeSchema(crdFiles: readonly string[]): Promise<KubeSchema> {
  const { ask, close } = startLineProgram(await rig.kubeSchema(), crdFiles);
  return {
    validate: async (objects) =>
      ((await ask({ objects })) as { readonly problems: readonly (readonly string[])[] }).problems,
    close,
  };
}

/** Checks objects once: each problem as `kind name: what is wrong`. */
export async function validateObjects(
  objects: readonly unknown[],
  crdFiles: readonly string[],
): Promise<readonly string[]> {
  const checker = await startKubeSchema(crdFiles);
  try {
    const problems = await checker.validate(objects);
    return problems.flatMap((list, index) => list.map((problem) => `${nameOf(objects[index])}: ${problem}`));
  } finally {
    await checker.close();
  }
}

function nameOf(object: unknown): string {
  const { kind, metadata } = object as {
    readonly kind?: string;
    readonly metadata?: { readonly name?: string };
  };
  return `${kind ?? 'object'} ${metadata?.name ?? ''}`;
}
