const LONGEST = 1024;

/** A message as conditions hold it: one line, cut to what the API server takes. */
export function oneLine(message: string): string {
  const text = message.replaceAll(/\p{Cc}+/gu, ' ');
  return text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 1)}…`;
}
