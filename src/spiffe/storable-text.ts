/** Whether text survives every database and encoding: PostgreSQL stores no U+0000, UTF-8 no lone surrogates. */
export function isStorableText (text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}
