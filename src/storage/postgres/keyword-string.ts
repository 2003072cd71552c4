import { SpiffeError } from '../../spiffe/errors.ts'

/**
 * Writes an address of keywords and values as a URL: `dbname=spire user=spire host=db password='a b'` (libpq, "Keyword/Value Connection
 * Strings"). What the keywords mean, and which there are, says whoever reads the URL.
 * @param text of which messages repeat nothing: any part of it could be a password
 * @throws {SpiffeError} `config_invalid`
 */
export function keywordsToUrl (text: string): string {
  const pairs: string[] = []
  for (let rest = text.trimStart(); rest !== '';) {
    const parts = pair.exec(rest)
    if (parts === null || !text.isWellFormed()) {
      throw new SpiffeError('config_invalid', 'the PostgreSQL address cannot be used: it is written postgres://user:password@host/database, or ' +
        'dbname=… user=… host=…, with \' around values that have spaces, and \\ before \' and \\')
    }
    const [all, keyword = '', quoted, bare = ''] = parts
    pairs.push(`${keyword}=${encodeURIComponent((quoted ?? bare).replaceAll(/\\(.)/gs, '$1'))}`)
    rest = rest.slice(all.length)
  }
  return `postgres://?${pairs.join('&')}`
}

/** A keyword and its value, in quotes or up to a space, and what space is after it. */
const pair = /^([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'(?=\s|$)|((?:[^\s'\\]|\\.)*)(?=\s|$))\s*/s
