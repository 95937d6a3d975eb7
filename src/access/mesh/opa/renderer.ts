import { MANAGED_LABELS } from '../objects.js';
import type { Renderer } from '../renderer.js';
import { opaFiles, type OpaOptions } from './bundle.js';

export interface OpaRendererOptions extends OpaOptions {
  /** Where the ConfigMaps are. `signet-system` unless said. */
  readonly namespace?: string;
}

/** What a ConfigMap holds at most; the API server refuses 1 MiB in all. */
const MAX_PART = 900_000;

/**
 * OPA: the files of a bundle, as ConfigMaps. Mounted together in one folder they are loaded with `opa run --bundle`; see
 * `opaBundle` for an archive that is signed. The time is looked at by Rego, so the rendering holds until policies change.
 */
export function opaRenderer(options: OpaRendererOptions = {}): Renderer {
  const { namespace = 'signet-system' } = options;
  return {
    mesh: 'opa',
    renderShared(context) {
      const { files, verdicts } = opaFiles(context, options);
      const configMap = (name: string, data: Readonly<Record<string, string>>) => ({
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name, namespace, labels: MANAGED_LABELS },
        data,
      });
      const { 'data.json': content = '', ...modules } = files;
      const flat = Object.fromEntries(
        Object.entries(modules).map(([name, text]) => [name.replace('signet/', ''), text]),
      );
      if (Buffer.byteLength(content) > MAX_PART) {
        // Without their size, which every edit changes: the verdicts of all policies would be others each time.
        const reason = `the data are more than the ${MAX_PART} bytes that a ConfigMap takes, so nothing is rendered; serve the archive of the bundle instead`;
        return {
          objects: [],
          verdicts: verdicts.map((verdict) => ({
            ...verdict,
            fidelity: 'Unsupported' as const,
            reasons: [reason],
          })),
        };
      }
      return {
        objects: [
          configMap('signet-opa-modules', flat),
          configMap('signet-opa-data', { 'data.json': content }),
        ],
        verdicts,
      };
    },
  };
}
