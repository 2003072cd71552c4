import t from 'tap'
import { killAgentRounds, killFirstStarts, killServerRounds } from './kill-rounds.ts'

t.test('kill -9 of the server at random points under load', t => killServerRounds(t, 4))
t.test('kill -9 of a server that starts for the first time', t => killFirstStarts(t, 3))
t.test('kill -9 of the agent at random points while it renews', t => killAgentRounds(t, 4))
