import type { CommandGroup } from '../command.ts'

export const apiCommands: CommandGroup = {
  summary: 'Call the Workload API as a workload does',
  commands: {
    fetch: {
      summary: 'Fetch this process\'s own SVIDs',
      byDefault: 'x509',
      commands: {
        x509: {
          summary: 'Fetch X509-SVIDs and bundles',
          load: async () => (await import('./fetch-x509.ts')).fetchX509
        },
        jwt: {
          summary: 'Fetch JWT-SVIDs and JWT bundles',
          load: async () => (await import('./fetch-jwt.ts')).fetchJwt
        }
      }
    },
    watch: {
      summary: 'Print X509-SVIDs and each update until Ctrl-C',
      load: async () => (await import('./api-watch.ts')).apiWatch
    },
    validate: {
      summary: 'Have the agent check a token',
      commands: {
        jwt: {
          summary: 'Check a JWT-SVID for an audience',
          load: async () => (await import('./validate-jwt.ts')).validateJwt
        }
      }
    }
  }
}
