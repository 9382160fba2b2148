__dist__ = "servecast"
