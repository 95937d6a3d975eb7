const encoder = new TextEncoder();

/**
 * The name of the file or directory for a text that somebody chose (an audience, a hint): its UTF-8 bytes, percent-encoded
 * where they are not `[A-Za-z0-9._-]`. A leading dot is encoded too, so that no name means another directory or is one of
 * our own. Two texts never have the same name.
 */
export function fileNameOf(text: string): string {
  let name = '';
  for (const byte of encoder.encode(text)) {
    const letter = String.fromCharCode(byte);
    name +=
      /[A-Za-z0-9_-]/.test(letter) || (letter === '.' && name !== '')
        ? letter
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return name;
}
