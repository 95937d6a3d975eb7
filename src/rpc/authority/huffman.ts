/**
 * The Huffman code of RFC 7541 appendix B. It is canonical: codes count up through the symbols below, and grow by a zero
 * bit with each longer length, so lengths and order say everything.
 */
const symbolsByLength: readonly (readonly [length: number, symbols: readonly number[]])[] = [
  [5, [48, 49, 50, 97, 99, 101, 105, 111, 115, 116]],
  [
    6,
    [
      32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108, 109, 110, 112,
      114, 117,
    ],
  ],
  [
    7,
    [
      58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106,
      107, 113, 118, 119, 120, 121, 122,
    ],
  ],
  [8, [38, 42, 44, 59, 88, 90]],
  [10, [33, 34, 40, 41, 63]],
  [11, [39, 43, 124]],
  [12, [35, 62]],
  [13, [0, 36, 64, 91, 93, 126]],
  [14, [94, 125]],
  [15, [60, 96, 123]],
  [19, [92, 195, 208]],
  [20, [128, 130, 131, 162, 184, 194, 224, 226]],
  [21, [153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230]],
  [
    22,
    [
      129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190,
      196, 198, 228, 232, 233,
    ],
  ],
  [
    23,
    [
      1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175,
      180, 182, 183, 188, 191, 197, 231, 239,
    ],
  ],
  [24, [9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237]],
  [25, [199, 207, 234, 235]],
  [26, [192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255]],
  [27, [203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254]],
  [
    28,
    [
      2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127,
      220, 249,
    ],
  ],
  // 256 is the end of the string: it may only stand as padding.
  [30, [10, 13, 22, 256]],
];

interface Level {
  /** The first code of this length, and the first that is none. */
  readonly first: number;
  readonly end: number;
  readonly symbols: readonly number[];
}

const levels: readonly (Level | undefined)[] = buildLevels();

function buildLevels(): (Level | undefined)[] {
  const built: (Level | undefined)[] = [];
  let code = 0;
  let length = 0;
  for (const [next, symbols] of symbolsByLength) {
    code *= 2 ** (next - length);
    length = next;
    built[length] = { first: code, end: code + symbols.length, symbols };
    code += symbols.length;
  }
  return built;
}

/** The bytes as a latin1 string; undefined when they are no valid code (RFC 7541 §5.2). */
export function decodeHuffman(bytes: Uint8Array): string | undefined {
  let text = '';
  let code = 0;
  let length = 0;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1);
      length++;
      const level = levels[length];
      if (level !== undefined && code < level.end) {
        const symbol = level.symbols[code - level.first];
        if (symbol === undefined || symbol === 256) return undefined;
        text += String.fromCharCode(symbol);
        code = 0;
        length = 0;
      } else if (length >= 30) return undefined;
    }
  }
  // Padding: fewer than eight bits, all ones.
  return length < 8 && code === 2 ** length - 1 ? text : undefined;
}
