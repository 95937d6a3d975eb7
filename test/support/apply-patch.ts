/** What additions and replacements of a JSON Patch (RFC 6902 §4) make of a document. Throws where a server would refuse. */
export function applyPatch(
  document: unknown,
  patch: readonly { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }[],
): unknown {
  const copy: unknown = structuredClone(document);
  for (const { op, path, value } of patch) {
    const steps = path.split('/').slice(1);
    const last = steps.pop() ?? '';
    let at: unknown = copy;
    for (const step of steps) at = (at as Readonly<Record<string, unknown>> | undefined)?.[step];
    if (Array.isArray(at)) {
      const index = last === '-' ? at.length : Number(last);
      if (!(index <= at.length)) throw new Error(`${path}: there is no such place`);
      at.splice(index, 0, structuredClone(value));
    } else if (typeof at === 'object' && at !== null) {
      if (op === 'add' && last in at) throw new Error(`${path}: something would be lost`);
      if (op === 'replace' && !(last in at)) throw new Error(`${path}: nothing is there`);
      Object.assign(at, { [last]: structuredClone(value) });
    } else throw new Error(`${path}: nothing is there`);
  }
  return copy;
}
