import type { BidiHandler, ServerStreamHandler, UnaryHandler } from './service.js';

/** A method as the generated `*Service` objects describe it. */
export interface MethodShape {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (value: never) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (value: never) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

/** A generated `*Service` object: methods by name. */
export type ServiceShape = Readonly<Record<string, MethodShape>>;

/** The request message of a method. */
export type RequestOf<M extends MethodShape> = ReturnType<M['requestDeserialize']>;
/** The response message of a method. */
export type ResponseOf<M extends MethodShape> = ReturnType<M['responseDeserialize']>;

/** The kind of handler that a method needs. Streams of requests with one answer are not used in this project. */
export type HandlerOf<M extends MethodShape> = M['requestStream'] extends true
  ? M['responseStream'] extends true
    ? BidiHandler<RequestOf<M>, ResponseOf<M>>
    : never
  : M['responseStream'] extends true
    ? ServerStreamHandler<RequestOf<M>, ResponseOf<M>>
    : UnaryHandler<RequestOf<M>, ResponseOf<M>>;

/** Handlers keyed by method name. A method without one answers `Unimplemented`. */
export type HandlersOf<D extends ServiceShape> = { readonly [K in keyof D]?: HandlerOf<D[K]> };

/** `/package.Service/Method` → `package.Service`. */
export function serviceNameOf(definition: ServiceShape): string {
  const first = Object.values(definition)[0];
  return first === undefined ? '' : first.path.slice(1, first.path.lastIndexOf('/'));
}
