import type { AgentMove } from '../../src/takeover/agent-moves.ts'
import type { Finding } from '../../src/takeover/finding.ts'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess, type AnyServer } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'

export const patienceMs = 120_000

export interface Status { readonly phase: string, readonly agents: readonly AgentMove[], readonly findings: readonly Finding[] }

/** Who takes a trust domain over, by command line. */
export class Operator {
  readonly #words: readonly string[]

  /** @param file of the takeover's state */
  constructor (spire: Pick<AnyServer, 'adminSocket'>, ours: Pick<AnyServer, 'adminSocket'>, file: string) {
    this.#words = ['-spireSocketPath', spire.adminSocket, '-socketPath', ours.adminSocket, '-state', file]
  }

  async run (...command: readonly string[]) { return await runAssay(['takeover', ...command, ...this.#words]) }

  /** What `plan` says as JSON; `status` says the same. */
  async status (): Promise<Status> {
    const { stdout, stderr } = await this.run('plan', '-output', 'json')
    if (stdout === '') throw new Error(stderr)
    return JSON.parse(stdout) as Status
  }

  async agent (id: string): Promise<AgentMove | undefined> { return (await this.status()).agents.find(agent => agent.id === id) }

  /** `assay takeover run` in a process of its own. */
  keepEqual (): RunningProcess { return new RunningProcess(['takeover', 'run', ...this.#words, '-interval', '500ms']) }

  async untilAgentsMayMove (): Promise<void> {
    await eventually('agents to be free to move', async () => (await this.run('status')).code === 0, patienceMs)
  }

  async untilHere (...ids: readonly string[]): Promise<void> {
    await eventually(`${ids.join(', ')} to be here`, async () => {
      const { agents } = await this.status()
      return ids.every(id => agents.find(agent => agent.id === id)?.place === 'here')
    }, patienceMs)
  }

  async untilNobodyIsHere (): Promise<void> {
    await eventually('our server to miss all agents', async () =>
      (await this.status()).agents.every(({ place }) => place !== 'here'), patienceMs)
  }
}
