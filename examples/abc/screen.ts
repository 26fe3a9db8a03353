/**
 * Lines on a terminal: a block that is redrawn in place, texts cut to a width.
 *
 * @module
 */
import { stripVTControlCharacters, styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

/** Coloured if stdout is a terminal and NO_COLOR does not forbid it. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
const wide =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|[\u{20000}-\u{3fffd}])/u;

function widthOf(grapheme: string): number {
  if (wide.test(grapheme) || grapheme.includes("\ufe0f")) return 2;
  return /^[\p{Control}\p{Mark}\p{Format}]+$/u.test(grapheme) ? 0 : 1;
}

/** Columns that a text takes. */
export function textWidth(text: string): number {
  let width = 0;
  for (const { segment } of graphemes.segment(stripVTControlCharacters(text))) width += widthOf(segment);
  return width;
}

/** One line of at most `width` columns, with an ellipsis where it was cut. The text must be without colours. */
export function cut(text: string, width: number): string {
  const line = stripVTControlCharacters(text).replaceAll(/[\n\r\t]+/g, " ");
  if (textWidth(line) <= width) return line;
  let shown = "";
  let left = width - 1;
  for (const { segment } of graphemes.segment(line)) {
    left -= widthOf(segment);
    if (left < 0) break;
    shown += segment;
  }
  return width < 1 ? "" : `${shown.trimEnd()}…`;
}

/** Filled up with spaces to `width` columns. */
export function pad(text: string, width: number, side: "left" | "right" = "right"): string {
  const spaces = " ".repeat(Math.max(0, width - textWidth(text)));
  return side === "right" ? text + spaces : spaces + text;
}

/** The block that is redrawn in place. */
export class Screen {
  #shown: string[] = [];

  get columns(): number {
    return process.stdout.columns || 80;
  }

  draw(lines: readonly string[]): void {
    // A taller block than the terminal could not be reached by going up.
    const fitting = lines.slice(0, Math.max(1, (process.stdout.rows || 24) - 1));
    const text = fitting.map((line) => `${line}\x1b[K\n`).join("");
    process.stdout.write(`\x1b[?2026h\x1b[?25l${this.#up()}${text}\x1b[J\x1b[?2026l`);
    this.#shown = fitting;
  }

  /** A line that stays, above the block. */
  print(line: string): void {
    const lines = this.#shown;
    process.stdout.write(`${this.#up()}\x1b[J${line}\n`);
    this.#shown = [];
    if (lines.length > 0) this.draw(lines);
  }

  /** Leaves the block as it is, with the cursor below it. */
  release(): void {
    if (this.#shown.length > 0) process.stdout.write("\x1b[?25h");
    this.#shown = [];
  }

  /** Takes the block away. */
  clear(): void {
    if (this.#shown.length > 0) process.stdout.write(`${this.#up()}\x1b[J\x1b[?25h`);
    this.#shown = [];
  }

  /** To the block's first line. In a terminal that became narrower a line takes several rows. */
  #up(): string {
    const rows = this.#shown.reduce((sum, line) => sum + Math.max(1, Math.ceil(textWidth(line) / this.columns)), 0);
    return rows === 0 ? "" : `\x1b[${Math.min(rows, (process.stdout.rows || 24) - 1)}A\r`;
  }
}
