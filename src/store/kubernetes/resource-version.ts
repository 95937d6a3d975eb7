/**
 * Whether one resource version comes after another of the same kind. The API server's versions are decimal numbers that
 * grow with each write and may be compared (KEP-5504; in fact they always were). What is no number is taken to be newer:
 * then what was shown last holds.
 */
export function isLater(version: string, than: string): boolean {
  if (!isNumber(version) || !isNumber(than)) return version !== than;
  // Longer than a double can hold exactly.
  return version.length === than.length ? version > than : version.length > than.length;
}

function isNumber(version: string): boolean {
  return /^[1-9][0-9]*$/.test(version);
}
