import { request } from 'node:http'

/** Whether an Envoy has all that it waits for at its start. @param socketPath of its admin interface */
export function isEnvoyReady (socketPath: string): Promise<boolean> {
  return new Promise(resolve => {
    request({ socketPath, path: '/ready', timeout: 1_000 }, response => {
      response.resume()
      resolve(response.statusCode === 200)
    }).on('timeout', () => resolve(false)).on('error', () => resolve(false)).end()
  })
}
