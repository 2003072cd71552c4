/** As addresses are written with a port: IPv6 in brackets. @param host an IP address, without brackets, or a name */
export function hostAndPort (host: string, port: number | string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
