import { request } from 'node:http'

const patienceMs = 1_000

export interface AskOptions {
  readonly signal?: AbortSignal | undefined
  readonly method?: 'GET' | 'POST'
  readonly mostBytes?: number
}

/** Asks Envoy's admin interface. @throws {Error} when it does not answer within a second, or with more than `mostBytes` (1 MiB) */
export function askEnvoy (
  adminSocketPath: string, path: string, { signal, method = 'GET', mostBytes = 1 << 20 }: AskOptions = {}
): Promise<string> {
  return new Promise((resolve, reject) => {
    const patience = AbortSignal.timeout(patienceMs)
    const within = signal === undefined ? patience : AbortSignal.any([signal, patience])
    request({ socketPath: adminSocketPath, path, method, agent: false, signal: within }, response => {
      let body = ''
      response.setEncoding('utf8').on('error', reject).on('end', () => resolve(body)).on('data', (text: string) => {
        body += text
        if (body.length > mostBytes) response.destroy(new Error('the answer is too long'))
      })
    }).on('error', reject).end()
  })
}
