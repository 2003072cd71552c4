import { nearestWord } from '../runtime/nearest-word.ts'
import { errorCatalogue, type CatalogueRow } from '../spiffe/errors.ts'
import { defineCommand } from './command.ts'
import { formatJson } from './json-output.ts'
import { usage } from './parse-flags.ts'
import { outputFlag } from './socket-path.ts'

export const explainErrors = defineCommand({
  flags: { output: outputFlag },
  argument: { name: 'CODE', optional: true, choices: Object.keys(errorCatalogue) },
  details: 'Without a code, all of them.',
  examples: ['assay errors no_identity_issued', 'assay errors --output json'],
  async run ({ flags, argument, terminal }) {
    const rows = Object.entries(errorCatalogue as Record<string, CatalogueRow>).filter(([code]) => argument === '' || code === argument)
    if (rows.length === 0) {
      const nearest = nearestWord(argument, Object.keys(errorCatalogue))
      throw usage(`no error has the code ${JSON.stringify(argument)}${nearest === undefined ? '' : `; did you mean ${nearest}?`}`)
    }
    if (flags.output === 'json') terminal.out(`${formatJson(rows.map(([code, row]) => ({ code, ...row })))}\n`)
    else terminal.out(rows.map(([code, row]) => explain(code, row)).join('\n'))
    return 0
  }
})

function explain (code: string, { status, retry, next }: CatalogueRow): string {
  return `${code}\n  gRPC status: ${status}\n  retry: ${retry ? 'may help' : 'does not help'}\n  next: ${next}\n`
}
