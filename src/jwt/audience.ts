import { SpiffeError } from '../spiffe/errors.ts'

const maxAudiences = 64
const maxBytes = 8 * 1024

/**
 * Checks what is about to become `aud` (JWT-07, WLAPI-21). The standard sets no bounds; these keep a token below the 16 KiB
 * that validators here accept (AMB-27).
 * @returns the values without repeats, in the order given
 * @throws {SpiffeError} `argument_invalid`: none, an empty one, more than 64, or more than 8 KiB in all
 */
export function checkAudience (audience: readonly string[]): string[] {
  const values = [...new Set(audience)]
  if (values.length === 0) throw refused('at least one audience is required')
  if (values.length > maxAudiences) throw refused(`more than ${maxAudiences} audiences`)
  if (values.some(value => value === '')) throw refused('an audience is empty')
  const bytes = values.reduce((sum, value) => sum + Buffer.byteLength(value), 0)
  if (bytes > maxBytes) throw refused(`audiences are longer than ${maxBytes} bytes`)
  return values
}

function refused (rule: string): SpiffeError { return new SpiffeError('argument_invalid', rule) }
