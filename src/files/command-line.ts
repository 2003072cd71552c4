/**
 * Splits the text of `cmd_args` at spaces, as spiffe-helper does: `"a b"` is one argument, and `""` inside it a quotation mark. Nothing
 * else is special, since no shell reads it.
 * @throws {Error} for a quotation mark that neither begins nor ends an argument
 */
export function splitArguments (text: string): string[] {
  const words: string[] = []
  const word = / *(?:"((?:[^"]|"")*)"|([^ "]+))(?= |$)/y
  let rest = text.trimEnd()
  while (rest !== '') {
    word.lastIndex = 0
    const found = word.exec(rest)
    if (found === null) throw new Error('a quotation mark must begin or end an argument, and each must have its other one')
    const [whole, quoted, plain] = found
    words.push(quoted?.replaceAll('""', '"') ?? plain ?? '')
    rest = rest.slice(whole.length)
  }
  return words
}
