import { status as codes } from '@grpc/grpc-js';
import type { StatusName } from './service.js';
import { StatusError } from './service.js';

const codeByName: Readonly<Record<StatusName, codes>> = {
  Cancelled: codes.CANCELLED,
  InvalidArgument: codes.INVALID_ARGUMENT,
  DeadlineExceeded: codes.DEADLINE_EXCEEDED,
  NotFound: codes.NOT_FOUND,
  AlreadyExists: codes.ALREADY_EXISTS,
  PermissionDenied: codes.PERMISSION_DENIED,
  ResourceExhausted: codes.RESOURCE_EXHAUSTED,
  FailedPrecondition: codes.FAILED_PRECONDITION,
  Aborted: codes.ABORTED,
  Unimplemented: codes.UNIMPLEMENTED,
  Internal: codes.INTERNAL,
  Unavailable: codes.UNAVAILABLE,
  Unauthenticated: codes.UNAUTHENTICATED,
};

const nameByCode: ReadonlyMap<number, StatusName> = new Map(
  Object.entries(codeByName).map(([name, code]) => [code, name as StatusName]),
);

/** The name of a code; those we never send (Unknown, OutOfRange, DataLoss) read as `Internal`. */
export function statusName(code: number): StatusName {
  return nameByCode.get(code) ?? 'Internal';
}

/**
 * gRPC carries the message percent-encoded in a trailer, and clients bound their headers (often at 8 KiB): a longer one
 * would be lost together with the status.
 */
const LONGEST_MESSAGE = 2048;

/** What a client is told. The text of an error that is no {@link StatusError} stays here. */
export function wireStatus(error: unknown): { code: codes; details: string } {
  if (!(error instanceof StatusError)) return { code: codes.INTERNAL, details: 'internal error' };
  // A lone surrogate cannot be encoded and would throw inside the library.
  const details = error.message.toWellFormed();
  return {
    code: codeByName[error.status],
    details:
      details.length <= LONGEST_MESSAGE ? details : `${details.slice(0, LONGEST_MESSAGE).toWellFormed()}…`,
  };
}
