import { readFileSync } from 'node:fs'

/** The version of this package; what an agent reports to its server. */
export const version: string =
  (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version
