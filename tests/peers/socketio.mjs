// A group server on Socket.IO with its defaults, without compression.
import { Server } from 'socket.io'

const io = new Server(Number(process.env.PORT), { transports: ['websocket'], perMessageDeflate: false })

io.on('connection', (socket) => {
  socket.on('join', (group, done) => {
    socket.join(group)
    done()
  })
  socket.on('send', (group, data) => io.to(group).emit('message', data))
})
