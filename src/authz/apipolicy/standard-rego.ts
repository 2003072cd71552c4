import { hash } from 'node:crypto'

/**
 * SPIRE's own policy reads a table of methods from its data and nothing else: where a file has this text, the data alone decides, and
 * nothing need be evaluated. SHA-256 of the text as `normalizeRego` leaves it.
 */
export const standardRegoDigests: ReadonlySet<string> = new Set([
  // SPIRE 1.12 to 1.15
  '741d4a31809cee32c3895ad01f5595e09392997cac290ac5cae1e9d6f8cbe362',
  // SPIRE 1.1 to 1.11: the same in the older syntax
  'ba93cb9c68c6912c4b928ec232590cddfe94a063715119022bb21435edfb47a4'
])

export function isStandardRego (text: string, digests: ReadonlySet<string> = standardRegoDigests): boolean {
  return digests.has(hash('sha256', normalizeRego(text)))
}

/**
 * Without comments, blank lines, indentation and repeated spaces; lines stay lines, since in Rego they separate statements. A number sign
 * within a string ends the line here as well: such a text is then no text that we know.
 */
export function normalizeRego (text: string): string {
  return text.split(/\r?\n/)
    .map(line => line.replace(/#.*$/, '').replaceAll(/[ \t]+/g, ' ').trim())
    .filter(line => line !== '')
    .join('\n')
}
