import type { Test } from 'tap'
import type { Channel } from '../../../src/rpc/channel.ts'
import { id } from '../admin/admin-client.ts'
import { ask, spireRpcs } from './spire-services.ts'

const ofServer = (await spireRpcs()).filter(({ path }) => path.startsWith('/spire.api.server.'))
/** The server's, by the method's name. */
export const rpcs = new Map(ofServer.map(rpc => [rpc.method.name, rpc]))

/** Method, what is asked, the request, and the status's name: of the call, or, for a batch, the number of each item. */
export type Row = readonly [method: string, what: string, request: unknown, expected: string | readonly number[], message?: RegExp]

export async function checkAnswers (t: Test, channel: Channel, rows: readonly Row[]): Promise<void> {
  for (const [method, what, request, expected, message] of rows) {
    const rpc = rpcs.get(method)
    if (rpc === undefined) throw new Error(`no method ${method}`)
    const { answer, error } = await ask(channel, rpc, request)
    const { results = [] } = (answer ?? {}) as { results?: ReadonlyArray<{ status?: { code: number, message: string } }> }
    const name = `${method}: ${what}`
    if (typeof expected === 'string') t.equal(error?.status ?? 'OK', expected, name)
    else t.same([error?.message, results.map(({ status }) => status?.code)], [undefined, expected], name)
    const said = error?.message ?? results.map(({ status }) => status?.message).join('\n')
    if (message !== undefined) t.match(said, message, `${name}: the text`)
  }
}

export const agentId = (token: string) => id(`/spire/agent/join_token/${token}`)
/** Statuses of items. */
export const [invalid, missing, exists, internal, unmet] = [3, 5, 6, 13, 9]
