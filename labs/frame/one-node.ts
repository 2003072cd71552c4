import type { Stage } from './stage.ts'

/** For `assay server run`, in a folder of its own; the port is in a variable. */
export const serverFlags = '-trustDomain example.org -bindAddress 127.0.0.1 -serverPort $SERVER_PORT' +
  ' -dataDir server -socketPath server.sock'
/** For `assay agent run`: where the server is, and by what it is known. */
export const joinFlags = '-trustDomain example.org -serverAddress 127.0.0.1 -serverPort $SERVER_PORT -trustBundle bundle.pem'

export interface OneNodeOptions {
  /** More of them, such as `-logLevel debug`. */
  readonly serverFlags?: string
  readonly agentFlags?: string
}

/** What the lab `join` does, in one step: a server, and an agent whose node is `spiffe://example.org/laptop`; both in variables. */
export async function startOneNode (stage: Stage, options: OneNodeOptions = {}): Promise<void> {
  const flags = (text: string | undefined) => text === undefined ? '' : ` ${text}`
  await stage.port('SERVER_PORT')
  stage.set('ASSAY_SERVER_SOCKET', 'server.sock')
  stage.set('SPIFFE_ENDPOINT_SOCKET', `unix://${stage.folder}/agent.sock`)
  await stage.startUntil('server is running', 'server', `assay server run ${serverFlags}${flags(options.serverFlags)}`)
  await stage.run('assay bundle show > bundle.pem')
  await stage.run("assay token generate -spiffeID spiffe://example.org/laptop | sed 's/^Token: //' > token")
  await stage.startUntil('agent is serving', 'agent',
    `assay agent run ${joinFlags} -joinTokenFile token -dataDir agent -socketPath agent.sock${flags(options.agentFlags)}`)
}
