import type { ServiceInit } from '../../wire/generated/assay-types.ts'
import type { ServiceResult } from '../../wire/generated/cluster.ts'
import type { ExitCode } from '../command.ts'
import type { Concern } from '../convergence/await-convergence.ts'
import { tellChange, type Wait, type WaitCall } from '../convergence/wait.ts'
import { printable } from '../pretty.ts'
import { openProgress } from '../progress.ts'
import { statusCodeName } from '../status-code.ts'
import type { Terminal } from '../terminal.ts'
import { formatService } from './format-service.ts'

/** Services reach the agents that follow them, whoever calls whom. */
export const servicesConcern: Concern = { entryIds: [], services: true }

/** Keeps each message below the server's limit. */
const batchSize = 50

/** Sends services in batches, one after the other. Results come in the order of the services. */
export async function inServiceBatches (
  services: readonly ServiceInit[], terminal: Terminal, send: (batch: readonly ServiceInit[]) => Promise<readonly ServiceResult[]>
): Promise<ServiceResult[]> {
  using progress = openProgress(terminal, services.length, 'services')
  const results: ServiceResult[] = []
  for (let start = 0; start < services.length; start += batchSize) {
    results.push(...await send(services.slice(start, start + batchSize)))
    progress.show(results.length)
  }
  return results
}

export interface ServiceChanges {
  readonly verb: 'create' | 'update'
  readonly asked: readonly ServiceInit[]
  readonly results: readonly ServiceResult[]
}

/** Tells what became of each service, and who has those that succeeded. One failure makes the exit code 1, in either form. */
export async function tellServices (call: WaitCall, { verb, asked, results }: ServiceChanges, wait: Wait | undefined): Promise<ExitCode> {
  const { terminal } = call
  const failed = results.flatMap(({ status }, index) =>
    status === undefined || status.code === 0 ? [] : [{ status, service: asked[index] ?? {} }])
  const made = results.flatMap(({ status, service }) => (status?.code ?? 0) === 0 && service !== undefined ? [service] : [])
  const pretty = () => {
    for (const service of made) terminal.out(formatService(service))
    for (const { status, service } of failed) {
      const reason = `code: ${statusCodeName(status.code)}, msg: ${JSON.stringify(printable(status.message))}`
      terminal.err(`Failed to ${verb} the following service (${reason}):\n${formatService(service)}`)
    }
    if (failed.length > 0) terminal.err(`Error: failed to ${verb} ${failed.length === 1 ? 'one service' : `${failed.length} services`}\n`)
  }
  const code = await tellChange(call, { json: { results }, pretty }, wait, made.length === 0 ? undefined : servicesConcern)
  return failed.length > 0 ? 1 : code
}
