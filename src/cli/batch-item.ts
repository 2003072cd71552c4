import type { Status } from '../wire/generated/types.ts'
import { statusCodeName } from './status-code.ts'
import type { Terminal } from './terminal.ts'

/** The one item of a batch that failed, told like any other refusal of the server. */
class ItemRefusal extends Error {
  readonly status: string

  constructor ({ code, message }: Status) {
    super(message)
    this.name = 'RpcError'
    this.status = statusCodeName(code).replace(/(?<=[a-z])[A-Z]/g, letter => `_${letter}`).toUpperCase()
  }
}

/**
 * Whether statuses in JSON are all that is said of items that failed: so do SPIRE's programs, and exit with 0 (spire-surface §5.1). Ours
 * fails as it does without JSON.
 */
export function statusesSuffice (
  { flags, terminal }: { readonly flags: { readonly output: 'pretty' | 'json' }, readonly terminal: Pick<Terminal, 'program'> }
): boolean {
  return flags.output === 'json' && terminal.program !== 'assay'
}

/** Throws unless the item's status is OK (or missing: some servers leave it out). */
export function refuseFailedItem (status: Status | undefined): void {
  if (status !== undefined && status.code !== 0) throw new ItemRefusal(status)
}
