import type { DocumentChange, ValueChange } from '../../authz/flips/compare-documents.ts'
import { counted, printable } from '../pretty.ts'

const shownLines = 200
/** Of a value: an archive of Rego has megabytes. */
const shownCharacters = 100
const signs = { added: '+', removed: '-', changed: '~' } as const

/** What differs between two sets as they are written, one line each. */
export function formatDocuments (changes: readonly DocumentChange[]): string {
  const lines = changes.flatMap(({ document, change, values }) => [`${signs[change]} ${document}`, ...values.map(formatValue)])
  return [
    changes.length === 0 ? 'The documents say the same\n' : `${counted(changes.length, 'document differs', 'documents differ')}:\n`,
    ...lines.slice(0, shownLines).map(line => `${printable(line)}\n`),
    ...lines.length > shownLines ? [`and ${lines.length - shownLines} more lines; -output json has all\n`] : []
  ].join('')
}

function formatValue ({ path, before, after }: ValueChange): string {
  if (before === undefined) return `  ${path}: + ${shown(after)}`
  return after === undefined ? `  ${path}: - ${shown(before)}` : `  ${path}: ${shown(before)} -> ${shown(after)}`
}

function shown (value: unknown): string {
  const text = JSON.stringify(value)
  return text.length <= shownCharacters ? text : `${text.slice(0, shownCharacters)}… (${text.length} characters)`
}
