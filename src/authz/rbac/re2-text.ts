/** A text as a part of a regular expression that matches it alone. */
export function literal (text: string): string { return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`) }

/**
 * The same, whatever the case of ASCII letters. Not `(?i)`: by that, RE2 takes U+017F for an s and U+212A for a k.
 */
export function literalOfAnyCase (text: string): string {
  return literal(text).replaceAll(/[A-Za-z]/g, letter => `[${letter.toLowerCase()}${letter.toUpperCase()}]`)
}
